// Curves of some runs, a drawing a tag, with what they are drawn over, the zoom and the smoothing in the address.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useChanged, useData } from "./api";
import { Chart, type Line, type Mark, nearest, Swatch } from "./chart";
import { clock, count, date, duration, num, short, tick } from "./format";
import { look, useTheme } from "./theme";
import type { Curve, Points, Series } from "./types";
import { setParams, usePlace } from "./url";

export type Axis = "step" | "epoch" | "relative" | "wall";

export interface Shown {
  id: string;
  name: string;
  /** Its colour's place. */
  at: number;
  group?: string | null;
}

export interface Settings {
  axis: Axis;
  smooth: number;
  log: boolean;
  group: boolean;
  zoom: [number, number] | null;
}

export function useSettings(usual: Axis = "step"): Settings {
  const { params } = usePlace();
  return useMemo(() => {
    const axis = (["step", "epoch", "relative", "wall"] as const).find((axis) => axis === params.get("x")) ?? usual;
    const zoom = params.get("zoom")?.split("~").map(Number);
    return {
      axis,
      smooth: Math.min(0.999, Math.max(0, Number(params.get("smooth")) || 0)),
      log: params.get("y") === "log",
      group: params.get("mean") === "1",
      zoom: zoom?.length === 2 && zoom.every(Number.isFinite) ? [zoom[0]!, zoom[1]!] : null,
    };
  }, [params]);
}

export function Controls({ settings, grouped, logs = true, axes = ["step", "epoch", "relative", "wall"] }: { settings: Settings; grouped?: boolean; logs?: boolean; axes?: Axis[] }) {
  const { axis, smooth, log, zoom, group } = settings;
  return (
    <div class="controls">
      <div class="segments" role="group" aria-label="What curves are drawn over">
        {axes.map((each) => (
          <button aria-pressed={axis === each} class={axis === each ? "on" : ""} onClick={() => setParams({ x: each, zoom: null })} key={each}>
            {each}
          </button>
        ))}
      </div>
      <label class="slider" title="How much a point owes to those before it">
        smooth
        <input
          type="range"
          min="0"
          max="100"
          value={Math.round(Math.sqrt(smooth) * 100)}
          onInput={(event) => {
            const at = Number(event.currentTarget.value) / 100;
            setParams({ smooth: at > 0 ? Math.min(0.999, at * at).toFixed(3) : null });
          }}
        />
        <output>{smooth > 0 ? smooth.toFixed(smooth > 0.99 ? 3 : 2) : "off"}</output>
      </label>
      {logs && (
        <label class="check">
          <input type="checkbox" checked={log} onChange={() => setParams({ y: log ? null : "log" })} /> log
        </label>
      )}
      {grouped && (
        <label class="check" title="Runs of one group as their mean, between the smallest and the largest">
          <input type="checkbox" checked={group} onChange={() => setParams({ mean: group ? null : "1" })} /> groups as mean
        </label>
      )}
      {zoom && (
        <button class="quiet" onClick={() => setParams({ zoom: null })} title="Also: double click on a curve">
          ⤢ whole
        </button>
      )}
    </div>
  );
}

const perEpoch = (curve: { steps_per_epoch: number | null }) => curve.steps_per_epoch || 1;

function places(curve: Curve, points: Points, axis: Axis): number[] {
  if (axis === "step") return points.step;
  if (axis === "epoch") return points.step.map((step) => step / perEpoch(curve));
  if (axis === "relative") return points.time;
  return points.time.map((time) => time + curve.start);
}

/** Shows a place of an axis: among others that are `step` apart, or alone. */
export function placeOf(axis: Axis): (x: number, step: number | null) => string {
  return (x, step) => {
    if (axis === "step") return step === null ? `step ${count(Math.round(x))}` : tick(x, step);
    if (axis === "epoch") return step === null ? `epoch ${short(Math.round(x * 1000) / 1000)}` : tick(x, step);
    if (axis === "relative") return step === null ? `after ${duration(x)}` : duration(x);
    if (step === null) return `${date(x)}:${clock(x).slice(6)}`;
    return step >= 86400 ? date(x).slice(5, 10) : step >= 60 ? date(x).slice(11) : clock(x);
  };
}

export interface EditMark {
  step: number;
  time: number;
  label: string;
  kind: Mark["kind"];
}

interface PanelProps {
  tag: string;
  title?: string;
  runs: Shown[];
  settings: Settings;
  machine?: boolean;
  edits?: EditMark[];
  hidden?: Set<string>;
  focus?: string | null;
  onFocus?: (key: string | null) => void;
  big?: boolean;
  onBig?: () => void;
}

/** The drawing of a tag. It asks for what it shows once it is seen, and again when that has changed while it is. */
export function Panel(props: PanelProps) {
  const { tag, runs, settings, machine, big } = props;
  const dark = useTheme();
  const element = useRef<HTMLElement>(null);
  const [seen, setSeen] = useState(false);
  const visible = useRef(false);
  const stale = useRef(false);
  const [width, setWidth] = useState(0);
  const { axis, smooth, log, zoom } = settings;
  const path = useMemo(() => {
    if (!seen || width === 0) return null;
    const query = new URLSearchParams({ runs: runs.map((run) => run.id).join(), tag, axis, pixels: String(Math.min(4096, Math.ceil(width / 100) * 100)) });
    if (machine) query.set("machine", "true");
    if (smooth > 0) query.set("smooth", String(smooth));
    if (zoom) {
      query.set("from", String(zoom[0]));
      query.set("to", String(zoom[1]));
    }
    return `series?${query}`;
  }, [seen, width, runs, tag, axis, smooth, zoom, machine]);
  const { data, error, reload } = useData<Series>(path);
  const again = useRef(reload);
  again.current = reload;
  useEffect(() => {
    const watch = new IntersectionObserver(
      (entries) => {
        visible.current = entries.some((entry) => entry.isIntersecting);
        if (!visible.current) return;
        setSeen(true);
        if (stale.current) again.current();
        stale.current = false;
      },
      { rootMargin: "200px" },
    );
    if (element.current) watch.observe(element.current);
    return () => watch.disconnect();
  }, []);
  useChanged([machine ? "machine" : "curves"], () => {
    if (visible.current) reload();
    else stale.current = true;
  });

  const lines = useMemo(() => linesOf(data, runs, settings, props.hidden, dark), [data, runs, settings, props.hidden, dark]);
  const first = data?.curves.find((curve) => !curve.error);
  const marks = useMemo(() => (first && props.edits ? marksOf(props.edits, first, axis) : []), [first, props.edits, axis]);
  const failed = data?.curves.filter((curve) => curve.error) ?? [];
  const bad = data?.curves.reduce((sum, curve) => sum + (curve.non_finite || 0), 0) ?? 0;
  const only = data?.curves.length === 1 && first ? first : null;
  return (
    <section class={big ? "panel big" : "panel"} ref={element} data-tag={tag}>
      <header>
        <h3 title={tag}>{props.title ?? tag}</h3>
        {only && <span class="now">{short(num(only.last.value))}</span>}
        {bad > 0 && (
          <span class="badge bad" title="Values that are not finite; red marks at the bottom show where">
            {count(bad)} not finite
          </span>
        )}
        {props.onBig && (
          <button class="quiet" onClick={props.onBig} aria-label={big ? "smaller" : "larger"} title={big ? "smaller" : "larger"}>
            {big ? "⤡" : "⤢"}
          </button>
        )}
      </header>
      {error && !data && <p class="error">{error.message}</p>}
      {failed.map((curve) => (
        <p class="error" key={curve.run}>
          {runs.find((run) => run.id === curve.run)?.name}: {curve.error}
        </p>
      ))}
      <Chart
        label={`${tag}: ${lines.map((line) => `${line.label} ${short(line.y[line.y.length - 1] ?? NaN)}`).join(", ")}`}
        lines={lines}
        marks={marks}
        range={zoom}
        log={log}
        height={big ? 420 : 210}
        place={placeOf(axis)}
        onWidth={setWidth}
        onZoom={(from, to) => setParams({ zoom: `${Number(from.toPrecision(12))}~${Number(to.toPrecision(12))}` })}
        onReset={() => setParams({ zoom: null })}
        focus={props.focus ?? null}
        {...(props.onFocus && { onFocus: props.onFocus })}
      />
      {data && lines.length === 0 && failed.length === 0 && <p class="empty">no values here</p>}
    </section>
  );
}

function linesOf(data: Series | undefined, runs: Shown[], settings: Settings, hidden: Set<string> | undefined, dark: boolean): Line[] {
  const lines: Line[] = [];
  for (const curve of data?.curves ?? []) {
    const run = runs.find((run) => run.id === curve.run);
    if (!run || curve.error || hidden?.has(run.id)) continue;
    const x = places(curve, curve.points, settings.axis);
    const bad = curve.bad.map(([at]) => (settings.axis === "epoch" ? at / perEpoch(curve) : settings.axis === "wall" ? at + curve.start : at));
    const smooth = curve.smooth;
    lines.push({
      key: run.id,
      label: run.name,
      ...look(run.at, dark),
      ...(smooth
        ? { x: places(curve, smooth, settings.axis), y: smooth.value, behind: { x, y: curve.points.value } }
        : { x, y: curve.points.value }),
      ...(bad.length > 0 && { bad }),
    });
  }
  return settings.group ? grouped(lines, runs) : lines;
}

/** Lines of one group as their mean over the places of all, between the lowest and the highest. */
function grouped(lines: Line[], runs: Shown[]): Line[] {
  const groups = new Map<string, Line[]>();
  for (const line of lines) {
    const group = runs.find((run) => run.id === line.key)?.group;
    const key = group ? `group ${group}` : line.key;
    groups.set(key, [...(groups.get(key) ?? []), line]);
  }
  return [...groups].map(([key, members]) => {
    const first = members[0]!;
    if (members.length === 1 || !key.startsWith("group ")) return first;
    const all = [...new Set(members.flatMap((line) => line.x))].sort((a, b) => a - b);
    const every = Math.max(1, Math.floor(all.length / 800));
    const x = all.filter((_, at) => at % every === 0 || at === all.length - 1);
    const [y, low, high]: [number[], number[], number[]] = [[], [], []];
    for (const at of x) {
      const values = members.filter((line) => at >= line.x[0]! && at <= line.x[line.x.length - 1]!).map((line) => between(line, at));
      y.push(values.reduce((sum, value) => sum + value, 0) / values.length);
      low.push(Math.min(...values));
      high.push(Math.max(...values));
    }
    const { behind: _, bad: __, ...rest } = first;
    return { ...rest, key, label: `${key.slice(6)} (mean of ${members.length})`, x, y, band: { low, high } };
  });
}

function between(line: Line, x: number): number {
  const near = nearest(line.x, x);
  const low = line.x[near]! > x ? near - 1 : near;
  const [x0, y0, x1, y1] = [line.x[low], line.y[low], line.x[low + 1], line.y[low + 1]];
  if (x0 === undefined || y0 === undefined) return line.y[near]!;
  if (x1 === undefined || y1 === undefined || x1 <= x0) return y0;
  return y0 + ((x - x0) / (x1 - x0)) * (y1 - y0);
}

function marksOf(edits: EditMark[], curve: Curve, axis: Axis): Mark[] {
  return edits.map(({ step, time, label, kind }) => {
    const x = axis === "step" ? step : axis === "epoch" ? step / perEpoch(curve) : axis === "relative" ? time - curve.start : time;
    return { x, label, kind };
  });
}

export function Legend({ runs, hidden, focus, onToggle, onFocus, children }: {
  runs: Shown[];
  hidden: Set<string>;
  focus: string | null;
  onToggle: (id: string) => void;
  onFocus: (id: string | null) => void;
  children?: (run: Shown) => preact.ComponentChildren;
}) {
  const dark = useTheme();
  return (
    <ul class="legend">
      {runs.map((run) => (
        <li
          key={run.id}
          class={`${hidden.has(run.id) ? "off" : ""} ${focus === run.id ? "near" : ""}`}
          onMouseEnter={() => onFocus(run.id)}
          onMouseLeave={() => onFocus(null)}
        >
          <button onClick={() => onToggle(run.id)} aria-pressed={!hidden.has(run.id)} title="show or hide">
            <Swatch {...look(run.at, dark)} />
            <span>{run.name}</span>
          </button>
          {children?.(run)}
        </li>
      ))}
    </ul>
  );
}

/** Tags by what stands before their last slash, those of few together. */
export function sections(tags: string[]): [string, string[]][] {
  const all = new Map<string, string[]>();
  for (const tag of tags) {
    const group = tag.includes("/") ? tag.slice(0, tag.indexOf("/")) : "";
    all.set(group, [...(all.get(group) ?? []), tag]);
  }
  return [...all];
}

/** All drawings, in sections that fold, with a search for tags. */
export function Grid(props: Omit<PanelProps, "tag" | "big" | "onBig"> & { tags: string[] }) {
  const { tags, ...rest } = props;
  const { params } = usePlace();
  const wanted = (params.get("tags") ?? "").toLowerCase();
  const big = params.get("big");
  const [folded, setFolded] = useState(new Set<string>());
  const shown = tags.filter((tag) => wanted.split(/\s+/).every((word) => tag.toLowerCase().includes(word)));
  return (
    <>
      {tags.length > 3 && (
        <input
          class="search"
          type="search"
          placeholder={`search ${tags.length} curves`}
          aria-label="search curves"
          value={params.get("tags") ?? ""}
          onInput={(event) => setParams({ tags: event.currentTarget.value || null })}
        />
      )}
      {shown.length === 0 && <p class="empty">{tags.length === 0 ? "nothing has been measured yet" : "no curve is called so"}</p>}
      {sections(shown).map(([name, own]) => (
        <div class="section" key={name}>
          <button
            class="fold"
            aria-expanded={!folded.has(name)}
            onClick={() => {
              const next = new Set(folded);
              if (!next.delete(name)) next.add(name);
              setFolded(next);
            }}
          >
            {folded.has(name) ? "▸" : "▾"} {name || "curves"} <small>{own.length}</small>
          </button>
          {!folded.has(name) && (
            <div class="panels">
              {own.map((tag) => (
                <Panel
                  key={tag}
                  {...rest}
                  tag={tag}
                  title={name ? tag.slice(name.length + 1) : tag}
                  big={big === tag}
                  onBig={() => setParams({ big: big === tag ? null : tag })}
                />
              ))}
            </div>
          )}
        </div>
      ))}
    </>
  );
}
