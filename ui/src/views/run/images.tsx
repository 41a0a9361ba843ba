// Images of some runs, of one step at a time, with what is to be seen on them drawn over them: the ground truth dashed, what was found in
// full lines. What is shown of that is chosen for all of them at once, and stands in the address.
import { useCallback, useMemo, useState } from "preact/hooks";
import type { Shown } from "../../curves";
import { Empty } from "../../parts";
import { setParams, usePlace } from "../../url";
import { useKeys } from "../help";
import { type Entry, useMedia } from "./media";
import { classColour, type Layers, type Objects, Picture, shownOf } from "./picture";

/** The last item at or before a step, or else the first. */
function upTo(items: Entry[], step: number): Entry | undefined {
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
  const layers = useLayers();
  // Of what is shown now: another step's takes its place.
  const [seen, setSeen] = useState<Record<string, { tag: string; objects: Objects }>>({});
  const onObjects = useCallback((place: string, tag: string, objects: Objects) => setSeen((now) => ({ ...now, [place]: { tag, objects } })), []);
  const masks = layers.off.has("alone") ? new Set(Object.values(seen).filter(({ objects }) => objects.only_masks).map(({ tag }) => tag)) : new Set<string>();
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
      <LayerControls layers={layers} objects={Object.values(seen).map(({ objects }) => objects)} />
      <div class={runs.length === 1 ? "shots one" : "shots"}>
      {tags.map((tag) => (
        <section key={tag} hidden={masks.has(tag)}>
          <h2>{tag}</h2>
          <div class={large ? "images large" : "images"}>
            {runs.map((run, index) => {
              const own = lists[index]?.tags.find((each) => each.kind === "image" && each.tag === tag);
              const items = own ? sameStep(own.items, step) : [];
              return items.map((item, nth) => <Picture run={run} tag={tag} item={item} several={runs.length > 1} layers={layers} nth={nth} onObjects={onObjects} key={`${run.id} ${nth}`} />);
            })}
          </div>
        </section>
      ))}
      </div>
    </>
  );
}

/** All items of the last step at or before one. */
function sameStep(items: Entry[], step: number): Entry[] {
  const last = upTo(items, step);
  return last ? items.filter((item) => item[1] === last[1]) : [];
}

/** What can be shown of an image, and whether it is. */
const LAYERS: [string, string][] = [
  ["truth", "ground truth"],
  ["found", "found"],
  ["boxes", "boxes"],
  ["masks", "masks"],
  ["labels", "labels"],
];

function useLayers(): Layers {
  const { params } = usePlace();
  return useMemo(() => {
    // Masks alone show nothing that is not on the image; they are there on demand.
    const off = new Set((params.get("off") ?? "alone").split(",").filter(Boolean));
    const score = params.get("score");
    return { off, score: score === null ? null : Number(score), without: new Set(params.getAll("without")) };
  }, [params]);
}

function LayerControls({ layers, objects }: { layers: Layers; objects: Objects[] }) {
  if (objects.length === 0) return null;
  const flip = (layer: string) => {
    const off = new Set(layers.off);
    if (!off.delete(layer)) off.add(layer);
    const all = [...off].join();
    setParams({ off: all === "alone" ? null : all || "none" });
  };
  const any = (what: (objects: Objects) => boolean) => objects.some(what);
  const has: Record<string, boolean> = {
    truth: any((each) => each.truth !== undefined) && any((each) => each.found !== undefined),
    found: any((each) => each.truth !== undefined) && any((each) => each.found !== undefined),
    boxes: any((each) => [...(each.truth ?? []), ...(each.found ?? [])].some((seen) => seen.box || seen.points)),
    masks: any((each) => [...(each.truth ?? []), ...(each.found ?? [])].some((seen) => seen.mask)),
    labels: true,
    alone: any((each) => !!each.only_masks),
  };
  const classes = new Map<string, { class: number; count: number }>();
  for (const each of objects.filter((each) => !each.only_masks)) {
    for (const { seen } of shownOf(each, { ...layers, without: new Set() })) {
      const known = classes.get(seen.name) ?? { class: seen.class, count: 0 };
      classes.set(seen.name, { ...known, count: known.count + 1 });
    }
  }
  for (const name of layers.without) if (!classes.has(name)) classes.set(name, { class: -1, count: 0 });
  const scored = any((each) => each.found?.some((seen) => seen.score !== undefined) ?? false);
  const score = layers.score ?? objects.find((each) => each.threshold !== undefined)?.threshold ?? 0;
  const only = (name: string) => setParams({ without: [...classes.keys()].filter((each) => each !== name) });
  return (
    <div class="controls layers">
      {[...LAYERS, ["alone", "masks alone"] as [string, string]].filter(([layer]) => has[layer]).map(([layer, name]) => (
        <label class="check" key={layer}>
          <input type="checkbox" checked={!layers.off.has(layer)} onChange={() => flip(layer)} /> {name}
        </label>
      ))}
      {scored && (
        <label class="slider" title="What the model is less sure of is not shown">
          score ≥
          <input type="range" min="0" max="1" step="0.01" value={score} aria-label="the lowest score" onInput={(event) => setParams({ score: event.currentTarget.value })} />
          <output>{score.toFixed(2)}</output>
        </label>
      )}
      <span class="classes" role="group" aria-label="classes">
        {[...classes].sort().map(([name, { class: of, count }]) => (
          <button
            key={name}
            class={layers.without.has(name) ? "chip off" : "chip"}
            aria-pressed={!layers.without.has(name)}
            title="show or hide; double click for this one alone"
            onClick={() => setParams({ without: layers.without.has(name) ? [...layers.without].filter((each) => each !== name) : [...layers.without, name] })}
            onDblClick={() => only(name)}
          >
            <i style={{ background: classColour(of) }} /> {name} <small>{count}</small>
          </button>
        ))}
        {layers.without.size > 0 && (
          <button class="quiet" onClick={() => setParams({ without: null })}>
            all classes
          </button>
        )}
      </span>
    </div>
  );
}
