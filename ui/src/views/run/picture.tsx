// An image with its objects over it.
import { useEffect, useRef } from "preact/hooks";
import { source } from "../../api";
import { Swatch } from "../../chart";
import type { Shown } from "../../curves";
import { look, useTheme } from "../../theme";
import { type Entry, useItem } from "./media";

export interface Seen {
  class: number;
  name: string;
  box?: [number, number, number, number];
  score?: number;
  crowd?: boolean;
  /** Row by row: how many pixels are outside, then inside, and so on. */
  mask?: number[];
  points?: [number, number, number][];
}

export interface Objects {
  truth?: Seen[];
  found?: Seen[];
  threshold?: number;
  only_masks?: boolean;
}

/** What of it is shown. */
export interface Layers {
  off: Set<string>;
  /** Null: as the run drew it. */
  score: number | null;
  without: Set<string>;
}

// As the program's own drawings have them.
const COLOURS = ["ff5252", "409cff", "4ccf60", "ffc128", "be6eff", "20cdcd", "ff872d", "ff6ebe", "a5dc32", "7882ff", "00b482", "cd558c", "c8a53c", "6ed7ff", "e13ce6", "a5c38c", "e6826e", "558caa", "c8afff", "967846"];

export function classColour(of: number): string {
  const count = COLOURS.length;
  const base = COLOURS[((of % count) + count) % count]!;
  const turn = ((Math.floor(of / count) % 3) + 3) % 3;
  const part = (at: number) => {
    const value = parseInt(base.slice(at, at + 2), 16);
    return Math.round(turn === 0 ? value : turn === 1 ? (value + 255) / 2 : value * 0.6);
  };
  return `rgb(${part(0)} ${part(2)} ${part(4)})`;
}

export function shownOf(objects: Objects, layers: Layers): { seen: Seen; found: boolean }[] {
  const least = layers.score ?? objects.threshold ?? 0;
  const chosen = (seen: Seen[] | undefined, found: boolean) =>
    layers.off.has(found ? "found" : "truth") ? [] : (seen ?? []).filter((one) => !layers.without.has(one.name) && (one.score ?? 1) >= least).map((seen) => ({ seen, found }));
  return [...chosen(objects.truth, false), ...chosen(objects.found, true)];
}

export function Picture({ run, tag, item, several, layers, nth, onObjects }: {
  run: Shown;
  tag: string;
  item: Entry;
  several: boolean;
  layers: Layers;
  /** Its place among those of one step. */
  nth: number;
  onObjects: (place: string, tag: string, objects: Objects) => void;
}) {
  const dark = useTheme();
  const value = useItem<{ file: string; width: number; height: number; objects?: Objects }>(run.id, tag, item);
  const name = value?.file.split("/").pop();
  const address = name && source.image(run.id, name);
  const objects = value?.objects;
  useEffect(() => objects && onObjects(`${run.id} ${tag} ${nth}`, tag, objects), [objects, run.id, tag, nth]);
  return (
    <figure>
      {address && value ? (
        <a class="picture" href={address} target="_blank" rel="noreferrer">
          <img src={address} width={value.width} height={value.height} alt={`${tag} at step ${item[1]}${objects ? `: ${described(objects, layers)}` : ""}`} />
          {objects && <Overlay objects={objects} layers={layers} width={value.width} height={value.height} />}
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

/** For those who do not see it: how many of which class. */
function described(objects: Objects, layers: Layers): string {
  const counts = new Map<string, number>();
  for (const { seen, found } of shownOf(objects, layers)) {
    const what = `${seen.name}${found ? " (found)" : ""}`;
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  return [...counts].map(([what, many]) => `${many} ${what}`).join(", ") || "nothing";
}

function Overlay({ objects, layers, width, height }: { objects: Objects; layers: Layers; width: number; height: number }) {
  const shown = shownOf(objects, layers);
  const text = Math.max(width, height) / 34;
  return (
    <>
      {!layers.off.has("masks") && <Masks shown={shown.map(({ seen }) => seen)} width={width} height={height} />}
      <svg viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
        {!layers.off.has("boxes") &&
          shown.map(({ seen, found }, at) => {
            const colour = classColour(seen.class);
            return (
              <g key={at} style={{ stroke: colour, fill: colour }}>
                {seen.box && !objects.only_masks && (
                  <rect x={seen.box[0]} y={seen.box[1]} width={Math.max(0, seen.box[2] - seen.box[0])} height={Math.max(0, seen.box[3] - seen.box[1])} class={found ? "found" : "truth"} />
                )}
                {seen.points?.filter((point) => point[2] > 0).map(([x, y], index) => <circle cx={x} cy={y} r={text / 4} key={index} />)}
              </g>
            );
          })}
        {!layers.off.has("labels") &&
          !objects.only_masks &&
          shown.map(({ seen, found }, at) =>
            seen.box ? (
              <text key={at} x={seen.box[0] + text / 5} y={found ? Math.max(text, seen.box[1] - text / 4) : Math.min(height - text / 4, seen.box[3] + text)} font-size={text} style={{ fill: classColour(seen.class) }}>
                {seen.name}
                {seen.crowd && " (crowd)"} {seen.score?.toFixed(2)}
              </text>
            ) : null,
          )}
      </svg>
    </>
  );
}

function Masks({ shown, width, height }: { shown: Seen[]; width: number; height: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const masks = shown.filter((seen) => seen.mask);
  const key = masks.map((seen) => `${seen.class} ${seen.mask!.length} ${seen.score}`).join();
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context) return;
    context.clearRect(0, 0, width, height);
    for (const { class: of, mask } of masks) {
      context.fillStyle = classColour(of);
      let at = 0;
      mask!.forEach((length, run) => {
        // A run of pixels may end some rows below.
        if (run % 2 === 1) for (let from = at; from < at + length; ) {
          const [x, y] = [from % width, Math.floor(from / width)];
          const wide = Math.min(width - x, at + length - from);
          context.fillRect(x, y, wide, 1);
          from += wide;
        }
        at += length;
      });
    }
  }, [key, width, height]);
  if (masks.length === 0) return null;
  return <canvas ref={canvas} width={width} height={height} aria-hidden="true" />;
}
