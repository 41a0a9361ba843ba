// What a run shows beside curves: distributions, texts; `images.tsx` has the images, `scores.tsx` precision, recall and confusion.
import { useEffect, useState } from "preact/hooks";
import { useChanged, useData } from "../../api";
import { num, short } from "../../format";
import { Empty, Failure } from "../../parts";
import type { Json, MediaList, MediaTag, Num } from "../../types";
import type { Shown } from "../../curves";
import { Confusion, Precision, type Curve, type Matrix } from "./scores";

export function useMedia(id: string): { media: MediaList | undefined; error: ReturnType<typeof useData>["error"]; reload: () => void } {
  const { data, error, reload } = useData<MediaList>(`runs/${id}/media`);
  useChanged(["media"], reload, 1500);
  return { media: data, error, reload };
}

export type Entry = MediaTag["items"][number];

/** What one item is like; of what the run went back behind there is nothing. */
export function useItem<T>(id: string, tag: string, item: Entry | undefined): T | undefined {
  const path = item ? `runs/${id}/media/${item[0]}?tag=${encodeURIComponent(tag)}&step=${item[1]}` : null;
  return useData<T>(path).data;
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
  if (kind === "confusion") return <Confusion value={value as unknown as Matrix} />;
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
