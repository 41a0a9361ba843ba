// One drawing: uPlot has the axes, the zoom and the cursor; curves are drawn over their own places, which need not be those of others.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { short, tick } from "./format";
import { useTheme } from "./theme";

export interface Line {
  key: string;
  label: string;
  colour: string;
  dash: number[];
  x: number[];
  y: number[];
  /** Drawn pale, behind: the original of a smoothed one. */
  behind?: { x: number[]; y: number[] };
  /** Places of values that are not finite. */
  bad?: number[];
  /** Low and high at each x: the spread of a group. */
  band?: { low: number[]; high: number[] };
}

export interface Mark {
  x: number;
  label: string;
  kind: "edit" | "refused" | "life";
}

interface Props {
  /** For those who do not see it. */
  label: string;
  lines: Line[];
  marks?: Mark[];
  range: [number, number] | null;
  log: boolean;
  height: number;
  /** Shows a place of the x axis: as an axis does, or in full. */
  place: (x: number, step: number | null) => string;
  onZoom?: (from: number, to: number) => void;
  onReset?: () => void;
  onWidth?: (pixels: number) => void;
  focus?: string | null;
  onFocus?: (key: string | null) => void;
}

interface Hover {
  left: number;
  top: number;
  x: number;
  rows: { line: Line; y: number; x: number; near: boolean }[];
  mark?: Mark;
}

const MOST_ROWS = 12;

export function Chart(props: Props) {
  const dark = useTheme();
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [hover, setHover] = useState<Hover | null>(null);
  const domain = useMemo(() => domainOf(props), [props.lines, props.range, props.log]);
  const now = useRef({ props, domain, dark, setHover, near: null as string | null });
  now.current = { ...now.current, props, domain, dark, setHover };

  useEffect(() => {
    const element = host.current;
    if (!element) return;
    const made = make(element, now);
    plot.current = made;
    const resize = new ResizeObserver(() => {
      const width = element.clientWidth;
      if (width > 0 && width !== made.width) made.setSize({ width, height: now.current.props.height });
      if (width > 0) now.current.props.onWidth?.(width);
    });
    resize.observe(element);
    return () => {
      resize.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [dark, props.log]);

  useEffect(() => {
    const made = plot.current;
    if (!made) return;
    if (made.height !== props.height) made.setSize({ width: made.width, height: props.height });
    made.setData(dummy(domain));
  }, [domain, props.marks, props.focus, props.height, dark, props.log]);

  return (
    <div class="chart">
      <div ref={host} role="img" aria-label={props.label} />
      {hover && <Tip hover={hover} width={plot.current?.width ?? 0} place={props.place} />}
    </div>
  );
}

function Tip({ hover, width, place }: { hover: Hover; width: number; place: Props["place"] }) {
  const right = hover.left > width / 2;
  const shown = hover.rows.slice(0, MOST_ROWS);
  return (
    <div class="tip" style={right ? { right: `${width - hover.left + 14}px` } : { left: `${hover.left + 14}px` }}>
      <div class="tip-x">{place(hover.x, null)}</div>
      {hover.mark && <div class={`tip-mark ${hover.mark.kind}`}>{hover.mark.label}</div>}
      {shown.map((row) => (
        <div class={row.near ? "tip-row near" : "tip-row"} key={row.line.key}>
          <Swatch colour={row.line.colour} dash={row.line.dash} />
          <span class="tip-name">{row.line.label}</span>
          <b>{short(row.y)}</b>
        </div>
      ))}
      {hover.rows.length > MOST_ROWS && <div class="tip-more">and {hover.rows.length - MOST_ROWS} more</div>}
    </div>
  );
}

export function Swatch({ colour, dash }: { colour: string; dash: number[] }) {
  return (
    <svg class="swatch" width="18" height="8" aria-hidden="true">
      <line x1="1" y1="4" x2="17" y2="4" stroke={colour} stroke-width="2.5" stroke-dasharray={dash.length ? dash.map((d) => d * 0.7).join(" ") : undefined} />
    </svg>
  );
}

interface Domain {
  x: [number, number];
  y: [number, number];
}

function domainOf({ lines, range, log }: Props): Domain {
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  const take = (xs: number[], ys: number[]) => {
    for (let at = 0; at < xs.length; at++) {
      const [x, y] = [xs[at]!, ys[at]!];
      if (x < x0) x0 = x;
      if (x > x1) x1 = x;
      if (range && (x < range[0] || x > range[1])) continue;
      if (log && y <= 0) continue;
      if (y < y0) y0 = y;
      if (y > y1) y1 = y;
    }
  };
  for (const line of lines) {
    take(line.x, line.y);
    if (line.behind) take(line.behind.x, line.behind.y);
    if (line.band) {
      take(line.x, line.band.low);
      take(line.x, line.band.high);
    }
    line.bad?.forEach((x) => ([x0, x1] = [Math.min(x0, x), Math.max(x1, x)]));
  }
  if (range) [x0, x1] = range;
  if (!(x0 <= x1)) [x0, x1] = [0, 1];
  if (x0 === x1) [x0, x1] = [x0 - 0.5, x1 + 0.5];
  if (!(y0 <= y1)) [y0, y1] = log ? [0.1, 1] : [0, 1];
  if (log) {
    const pad = Math.max((y1 / y0) ** 0.04, 1.02);
    [y0, y1] = [y0 / pad, y1 * pad];
  } else {
    const pad = y1 > y0 ? (y1 - y0) * 0.05 : Math.max(Math.abs(y0) * 0.05, 1e-6);
    [y0, y1] = [y0 - pad, y1 + pad];
  }
  return { x: [x0, x1], y: [y0, y1] };
}

// uPlot knows no curve: only the ends of its axes.
function dummy(domain: Domain): uPlot.AlignedData {
  return [domain.x, [domain.y[0], domain.y[1]]];
}

type Now = { current: { props: Props; domain: Domain; dark: boolean; setHover: (hover: Hover | null) => void; near: string | null } };

function make(element: HTMLElement, now: Now): uPlot {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--soft"),
    grid: { stroke: colour("--grid"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  };
  const step = (splits: number[]) => (splits.length > 1 ? Math.abs(splits[1]! - splits[0]!) : 0);
  const options: uPlot.Options = {
    width: element.clientWidth || 400,
    height: now.current.props.height,
    legend: { show: false },
    padding: [8, 12, 0, 0],
    scales: {
      x: { time: false, range: () => now.current.domain.x },
      y: { distr: now.current.props.log ? 3 : 1, range: () => now.current.domain.y },
    },
    series: [{}, { stroke: "transparent", points: { show: false }, width: 0, paths: () => null }],
    axes: [
      { ...axis, size: 26, gap: 4, space: 70, values: (_, splits) => splits.map((x) => now.current.props.place(x, step(splits))) },
      {
        ...axis,
        size: 52,
        gap: 6,
        space: 34,
        values: (_, splits) => splits.map((y) => (y === null ? "" : now.current.props.log ? tickLog(y) : tick(y, step(splits)))),
      },
    ],
    cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false }, sync: { key: "curves", setSeries: false } },
    select: { show: true, left: 0, top: 0, width: 0, height: 0 },
    hooks: {
      draw: [(u) => draw(u, now, colour)],
      setCursor: [(u) => point(u, now)],
      setSelect: [
        (u) => {
          if (u.select.width < 4) return;
          const [from, to] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          now.current.props.onZoom?.(from, to);
        },
      ],
      ready: [
        (u) => {
          u.over.addEventListener("mouseleave", () => {
            now.current.setHover(null);
            now.current.props.onFocus?.(null);
          });
          u.over.addEventListener("dblclick", () => now.current.props.onReset?.());
        },
      ],
    },
  };
  return new uPlot(options, dummy(now.current.domain), element);
}

function tickLog(y: number): string {
  const power = Math.log10(y);
  if (Math.abs(power - Math.round(power)) > 1e-6) return "";
  return y >= 1e-3 && y < 1e5 ? String(Number(y.toPrecision(6))) : `1e${Math.round(power)}`;
}

function draw(u: uPlot, now: Now, colour: (name: string) => string): void {
  const { ctx, bbox } = u;
  const { props, domain } = now.current;
  const ratio = devicePixelRatio || 1;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  const [x0, x1] = domain.x;
  const toX = (x: number) => bbox.left + ((x - x0) / (x1 - x0)) * bbox.width;
  const toY = (y: number) => u.valToPos(y, "y", true);
  for (const mark of props.marks ?? []) {
    const x = Math.round(toX(mark.x)) + 0.5;
    ctx.strokeStyle = ctx.fillStyle = colour(mark.kind === "refused" ? "--bad" : mark.kind === "life" ? "--soft" : "--mark");
    ctx.globalAlpha = 0.75;
    ctx.lineWidth = ratio;
    ctx.setLineDash([4 * ratio, 3 * ratio]);
    line(ctx, x, bbox.top, x, bbox.top + bbox.height);
    ctx.setLineDash([]);
    ctx.globalAlpha = 1;
    ctx.beginPath();
    ctx.moveTo(x - 5 * ratio, bbox.top);
    ctx.lineTo(x + 5 * ratio, bbox.top);
    ctx.lineTo(x, bbox.top + 7 * ratio);
    ctx.fill();
  }
  const one = (xs: number[], ys: number[], width: number, alpha: number) => {
    ctx.lineWidth = width * ratio;
    ctx.globalAlpha = alpha;
    ctx.beginPath();
    for (let at = 0; at < xs.length; at++) {
      const y = ys[at]!;
      if (props.log && y <= 0) continue;
      ctx.lineTo(toX(xs[at]!), toY(y));
    }
    ctx.stroke();
    if (xs.length < 60 && alpha >= 0.5) {
      ctx.setLineDash([]);
      for (let at = 0; at < xs.length; at++) {
        if (props.log && ys[at]! <= 0) continue;
        ctx.beginPath();
        ctx.arc(toX(xs[at]!), toY(ys[at]!), (xs.length === 1 ? 3.5 : 2.2) * ratio, 0, 7);
        ctx.fill();
      }
    }
  };
  ctx.lineJoin = "round";
  const wanted = props.focus ?? now.current.near;
  // One that is hidden makes no other pale.
  const focus = props.lines.some((line) => line.key === wanted) ? wanted : null;
  const order = [...props.lines].sort((a, b) => Number(a.key === focus) - Number(b.key === focus));
  for (const each of order) {
    const pale = focus !== null && props.lines.length > 1 && each.key !== focus;
    ctx.strokeStyle = ctx.fillStyle = each.colour;
    ctx.setLineDash(each.dash.map((length) => length * ratio));
    if (each.band) {
      ctx.globalAlpha = pale ? 0.06 : 0.16;
      ctx.beginPath();
      each.x.forEach((x, at) => ctx.lineTo(toX(x), toY(each.band!.high[at]!)));
      for (let at = each.x.length - 1; at >= 0; at--) ctx.lineTo(toX(each.x[at]!), toY(each.band.low[at]!));
      ctx.fill();
    }
    if (each.behind) {
      ctx.setLineDash([]);
      one(each.behind.x, each.behind.y, 1, pale ? 0.07 : 0.25);
      ctx.setLineDash(each.dash.map((length) => length * ratio));
    }
    one(each.x, each.y, each.key === focus ? 2.4 : 1.6, pale ? 0.3 : 1);
    ctx.globalAlpha = 1;
    ctx.fillStyle = colour("--bad");
    for (const x of each.bad ?? []) {
      const left = toX(x);
      ctx.beginPath();
      ctx.moveTo(left - 4 * ratio, bbox.top + bbox.height);
      ctx.lineTo(left + 4 * ratio, bbox.top + bbox.height);
      ctx.lineTo(left, bbox.top + bbox.height - 7 * ratio);
      ctx.fill();
    }
  }
  ctx.restore();
}

function line(ctx: CanvasRenderingContext2D, x0: number, y0: number, x1: number, y1: number): void {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}

/** The place in a rising list that is nearest. */
export function nearest(xs: number[], x: number): number {
  let [low, high] = [0, xs.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle]! < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - xs[low - 1]! < xs[low]! - x ? low - 1 : low;
}

function point(u: uPlot, now: Now): void {
  const { left, top } = u.cursor;
  const { props, domain } = now.current;
  // Of charts beside this one only the line of the cursor is shown.
  const own = u.over.matches(":hover");
  if (!own || left === undefined || top === undefined || left < 0) {
    now.current.setHover(null);
    if (now.current.near !== null) {
      now.current.near = null;
      u.redraw(false);
    }
    return;
  }
  const x = u.posToVal(left, "x");
  const reach = ((domain.x[1] - domain.x[0]) / u.over.clientWidth) * 40;
  const rows: Hover["rows"] = [];
  for (const each of props.lines) {
    if (each.x.length === 0) continue;
    const at = nearest(each.x, x);
    const outside = x < each.x[0]! - reach || x > each.x[each.x.length - 1]! + reach;
    if (!outside) rows.push({ line: each, x: each.x[at]!, y: each.y[at]!, near: false });
  }
  const away = (y: number) => Math.abs(u.valToPos(y, "y") - top);
  rows.sort((a, b) => away(a.y) - away(b.y));
  const nearestRow = rows[0];
  const near = nearestRow && away(nearestRow.y) < 40 ? nearestRow.line.key : null;
  if (nearestRow && near) nearestRow.near = true;
  const shown = rows.slice().sort((a, b) => (rows.length > MOST_ROWS ? 0 : b.y - a.y));
  const mark = (props.marks ?? []).find((mark) => Math.abs(u.valToPos(mark.x, "x") - left) < 7);
  now.current.setHover({ left: left + u.over.offsetLeft, top, x: nearestRow?.x ?? x, rows: shown, ...(mark && { mark }) });
  if (near !== now.current.near) {
    now.current.near = near;
    props.onFocus?.(near);
    u.redraw(false);
  }
}
