// What runs show beside curves: images by step, distributions, precision and recall, texts.
import { useEffect, useMemo, useState } from "preact/hooks";
import { source, useChanged, useData } from "../../api";
import { Swatch } from "../../chart";
import { num, short } from "../../format";
import { Empty, Failure } from "../../parts";
import { look, useTheme } from "../../theme";
import type { Json, MediaList, MediaTag, Num } from "../../types";
import { setParams, usePlace } from "../../url";
import type { Shown } from "../../curves";
import { useKeys } from "../help";

export function useMedia(id: string): { media: MediaList | undefined; error: ReturnType<typeof useData>["error"]; reload: () => void } {
  const { data, error, reload } = useData<MediaList>(`runs/${id}/media`);
  useChanged(["media"], reload, 1500);
  return { media: data, error, reload };
}

/** What one item is like; of what the run went back behind there is nothing. */
function useItem<T>(id: string, tag: string, item: MediaTag["items"][number] | undefined): T | undefined {
  const path = item ? `runs/${id}/media/${item[0]}?tag=${encodeURIComponent(tag)}&step=${item[1]}` : null;
  return useData<T>(path).data;
}

/** The last item at or before a step, or else the first. */
function upTo(items: MediaTag["items"], step: number): MediaTag["items"][number] | undefined {
  let found = items[0];
  for (const item of items) if (item[1] <= step) found = item;
  return found;
}

/** Images of some runs, of one step at a time. */
export function Images({ runs }: { runs: Shown[] }) {
  const lists = runs.map((run) => useMedia(run.id).media);
  const { params } = usePlace();
  const tags = useMemo(() => {
    const all = new Map<string, true>();
    lists.forEach((list) => list?.tags.filter((tag) => tag.kind === "image").forEach((tag) => all.set(tag.tag, true)));
    return [...all.keys()];
  }, [lists.map((list) => list?.tags.length).join()]);
  const steps = useMemo(() => {
    const all = lists.flatMap((list) => list?.tags.filter((tag) => tag.kind === "image").flatMap((tag) => tag.items.map((item) => item[1])) ?? []);
    return [...new Set(all)].sort((a, b) => a - b);
  }, [lists]);
  const given = params.get("step");
  // Without a choice it is the latest, also when there is a later one.
  const at = given === null ? steps.length - 1 : Math.max(0, steps.findIndex((step) => step >= Number(given)));
  const step = steps[at] ?? 0;
  const go = (to: number) => setParams({ step: to >= steps.length - 1 ? null : String(steps[Math.max(0, to)]) });
  useKeys((key) => {
    if (key === "ArrowLeft") go(at - 1);
    if (key === "ArrowRight") go(at + 1);
  });
  const [large, setLarge] = useState(false);
  if (lists.every(Boolean) && tags.length === 0) return <Empty>No images: a pipeline shows some by a handler, such as `handler.show_predictions`.</Empty>;
  return (
    <>
      <div class="controls">
        <button onClick={() => go(at - 1)} disabled={at <= 0} aria-label="the step before">
          ←
        </button>
        <input type="range" class="steps" min="0" max={Math.max(0, steps.length - 1)} value={at} aria-label="step" onInput={(event) => go(Number(event.currentTarget.value))} />
        <button onClick={() => go(at + 1)} disabled={at >= steps.length - 1} aria-label="the step after">
          →
        </button>
        <b>step {step}</b>
        <label class="check">
          <input type="checkbox" checked={large} onChange={() => setLarge(!large)} /> large
        </label>
      </div>
      {tags.map((tag) => (
        <section key={tag}>
          <h2>{tag}</h2>
          <div class={large ? "images large" : "images"}>
            {runs.map((run, index) => {
              const own = lists[index]?.tags.find((each) => each.kind === "image" && each.tag === tag);
              const items = own ? sameStep(own.items, step) : [];
              return items.map((item) => <Picture run={run} tag={tag} item={item} several={runs.length > 1} key={`${run.id} ${item[0]}`} />);
            })}
          </div>
        </section>
      ))}
    </>
  );
}

/** All items of the last step at or before one. */
function sameStep(items: MediaTag["items"], step: number): MediaTag["items"] {
  const last = upTo(items, step);
  return last ? items.filter((item) => item[1] === last[1]) : [];
}

function Picture({ run, tag, item, several }: { run: Shown; tag: string; item: MediaTag["items"][number]; several: boolean }) {
  const dark = useTheme();
  const value = useItem<{ file: string; width: number; height: number }>(run.id, tag, item);
  const name = value?.file.split("/").pop();
  const address = name && source.image(run.id, name);
  return (
    <figure>
      {address ? (
        <a href={address} target="_blank" rel="noreferrer">
          <img src={address} width={value?.width} height={value?.height} alt={`${tag} at step ${item[1]}`} />
        </a>
      ) : (
        <div class="blank">{address === null && "not in this file"}</div>
      )}
      <figcaption>
        {several && <Swatch {...look(run.at, dark)} />} {several && run.name} <span class="soft">step {item[1]}</span>
      </figcaption>
    </figure>
  );
}

/** Everything but images. */
export function Others({ run, kinds }: { run: Shown; kinds: string[] }) {
  const { media, error, reload } = useMedia(run.id);
  if (!media) return error ? <Failure problem={error} retry={reload} /> : null;
  const shown = media.tags.filter((tag) => kinds.includes(tag.kind));
  if (shown.length === 0) return <Empty>Nothing of this kind was recorded.</Empty>;
  return (
    <div class="panels others">
      {shown.map((tag) => (
        <Item run={run} tag={tag} key={`${tag.kind} ${tag.tag}`} />
      ))}
    </div>
  );
}

function Item({ run, tag }: { run: Shown; tag: MediaTag }) {
  const [chosen, choose] = useState<number | null>(null);
  const last = tag.items.length - 1;
  const at = chosen === null ? last : Math.min(chosen, last);
  useEffect(() => choose(null), [run.id]);
  const item = tag.items[at];
  const value = useItem<Json>(run.id, tag.tag, item);
  return (
    <section class="panel">
      <header>
        <h3 title={tag.tag}>{tag.tag}</h3>
        <span class="now">step {item?.[1]}</span>
      </header>
      {last > 0 && (
        <input
          type="range"
          class="steps"
          min="0"
          max={last}
          value={at}
          aria-label={`step of ${tag.tag}`}
          onInput={(event) => choose(Number(event.currentTarget.value) === last ? null : Number(event.currentTarget.value))}
        />
      )}
      {value !== undefined && <Value kind={tag.kind} value={value} />}
    </section>
  );
}

function Value({ kind, value }: { kind: string; value: Json }) {
  if (kind === "histogram") return <Bars value={value as unknown as Distribution} />;
  if (kind === "pr_curve") return <Precision value={value as unknown as Curve} />;
  if (typeof value === "string") return <pre class="text">{value}</pre>;
  return <pre class="text">{JSON.stringify(value, null, 2)}</pre>;
}

interface Distribution {
  count: number;
  non_finite: number;
  min: Num;
  max: Num;
  mean: Num;
  counts: number[];
}

function Bars({ value }: { value: Distribution }) {
  const most = Math.max(1, ...(value.counts ?? []));
  const width = 100 / Math.max(1, value.counts.length);
  return (
    <>
      <svg class="bars" viewBox="0 0 100 60" preserveAspectRatio="none" role="img" aria-label="distribution">
        {value.counts.map((count, at) => (
          <rect x={at * width} width={width * 0.92} y={60 - (count / most) * 58} height={(count / most) * 58} key={at}>
            <title>{count}</title>
          </rect>
        ))}
      </svg>
      <div class="ends">
        <span>{short(num(value.min))}</span>
        <span>mean {short(num(value.mean))}</span>
        <span>{short(num(value.max))}</span>
      </div>
      <p class="soft">
        {value.count} values{value.non_finite > 0 && <b class="error">, {value.non_finite} of them not finite</b>}
      </p>
    </>
  );
}

interface Curve {
  true_positives: number[];
  false_positives: number[];
  positives: number;
}

function Precision({ value }: { value: Curve }) {
  const [near, setNear] = useState<number | null>(null);
  const points = value.true_positives.map((right, at) => {
    const found = right + (value.false_positives[at] ?? 0);
    const [precision, recall] = [found > 0 ? right / found : 1, value.positives > 0 ? right / value.positives : 0];
    const f1 = precision + recall > 0 ? (2 * precision * recall) / (precision + recall) : 0;
    return { precision, recall, f1, threshold: at / Math.max(1, value.true_positives.length - 1) };
  });
  const best = points.reduce((best, point, at) => (point.f1 > (points[best]?.f1 ?? -1) ? at : best), 0);
  const shown = points[near ?? best];
  const [x, y] = [(recall: number) => 34 + recall * 256, (precision: number) => 10 + (1 - precision) * 140];
  return (
    <>
      <svg class="pr" viewBox="0 0 300 175" role="img" aria-label="precision over recall" onMouseLeave={() => setNear(null)}>
        {[0, 0.5, 1].map((at) => (
          <g key={at}>
            <line class="grid" x1={x(0)} x2={x(1)} y1={y(at)} y2={y(at)} />
            <line class="grid" x1={x(at)} x2={x(at)} y1={y(0)} y2={y(1)} />
            <text class="axis-tick" x="28" y={y(at) + 4} text-anchor="end">
              {at}
            </text>
            <text class="axis-tick" x={x(at)} y="166" text-anchor="middle">
              {at}
            </text>
          </g>
        ))}
        <path class="curve" d={points.map((point, at) => `${at ? "L" : "M"}${x(point.recall)},${y(point.precision)}`).join("")} />
        {points.map((point, at) => (
          <circle cx={x(point.recall)} cy={y(point.precision)} r={at === (near ?? best) ? 4 : 7} class={at === (near ?? best) ? "near" : "hit"} onMouseEnter={() => setNear(at)} key={at} />
        ))}
      </svg>
      {shown && (
        <p class="soft">
          confidence ≥ {short(shown.threshold)}: precision {short(shown.precision)}, recall {short(shown.recall)}, F1 {short(shown.f1)}
          {near === null && " (the best F1)"}
        </p>
      )}
    </>
  );
}
