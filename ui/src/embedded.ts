// The data of a page that `pipe runs export` wrote: what the server answered then, for some runs, as far as it is in the file. What a server
// works out of more than that (another choice of runs, a part of a curve, a smoothed one) is worked out here.
import { Problem } from "./problem";
import type { Source } from "./source";
import type { Comparison, Curve, Difference, Json, Keys, Metric, Num, Points, Row, Run, RunPage, Series, Session, Study, Table } from "./types";

/** What the file holds. */
export interface Told {
  session: Session;
  table: Table;
  keys: Keys;
  compare: Comparison;
  /** The one that all runs are of. */
  study: Study | null;
  /** Answers by address, those about single runs. */
  answers: Record<string, Json>;
  /** By run and tag. */
  curves: Record<string, Record<string, Curve>>;
  machine: Record<string, Record<string, Curve>>;
  /** By name. */
  images: Record<string, string>;
}

export class Embedded implements Source {
  readonly served = false;

  constructor(private readonly told: Told) {}

  async get(path: string): Promise<unknown> {
    const [name, query] = path.split("?");
    const params = new URLSearchParams(query);
    const { told } = this;
    if (name === "session") return told.session;
    if (name === "runs") return this.table(params);
    if (name === "keys") return told.keys;
    if (name === "compare") return part(told.compare, (params.get("runs") ?? "").split(","));
    if (name === "study") return told.study;
    if (name === "series") return this.series(params);
    const answer = told.answers[name!];
    if (answer === undefined) throw new Problem("this is not in the file, which holds only a part of the runs", 404);
    // The console is asked on from where it was read to: there is no more of it.
    if (params.has("from")) return { ...(answer as object), from: Number(params.get("from")), text: "" };
    return answer;
  }

  async post(): Promise<unknown> {
    throw new Problem("nothing can be changed from a file", 0);
  }

  image(_: string, name: string): string | null {
    return this.told.images[name] ?? null;
  }

  file(): null {
    return null;
  }

  private table(params: URLSearchParams): Table {
    const { table } = this.told;
    const columns: string[] = params.has("columns") ? JSON.parse(params.get("columns")!) : table.columns;
    const of = (row: Row, key: string): Json => {
      const known = table.columns.indexOf(key);
      const page = this.told.answers[`runs/${row.id}`] as unknown as RunPage | undefined;
      return known >= 0 ? (row.values[known] ?? null) : page ? valueOf(page.run, key) : null;
    };
    const runs = table.runs.map((row) => ({ ...row, values: columns.map((column) => of(row, column)) }));
    const sort = params.get("sort");
    if (sort) {
      const [key, sign] = sort.startsWith("-") ? [sort.slice(1), -1] : [sort, 1];
      const own = new Map(runs.map((row) => [row, of(row, key)]));
      runs.sort((a, b) => inOrder(own.get(a)!, own.get(b)!, sign));
    }
    return { ...table, columns, runs };
  }

  private series(params: URLSearchParams): Series {
    const tag = params.get("tag") ?? "";
    const of = params.get("machine") ? this.told.machine : this.told.curves;
    const ids = (params.get("runs") ?? "").split(",");
    const curves = ids.map((id) => of[id]?.[tag]).filter((curve) => curve !== undefined);
    return { tag, curves: curves.map((curve) => shown(curve, params)) };
  }
}

/** Those without a value last, whichever way. */
function inOrder(a: Json, b: Json, sign: number): number {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b));
}

/** As the server has it, but for names of metrics that are no tags. */
function valueOf(run: Run, key: string): Json {
  const call = /^(min|max|last)\((.*)\)$/.exec(key);
  const curve = run.metrics[call ? call[2]! : key];
  const at = (which: "min" | "max" | "last", curve: Metric | undefined): Num | null => curve?.[which]?.value ?? null;
  if (call) return at(call[1] as "min" | "max" | "last", curve);
  const field = (run as unknown as Record<string, Json>)[key];
  if (field !== undefined && key !== "options" && key !== "metrics") return field;
  return run.options[key] ?? at("last", curve);
}

/** A comparison of some of its runs. */
function part(all: Comparison, ids: string[]): Comparison {
  const at = ids.map((id) => all.about.findIndex((run) => run.id === id));
  if (at.some((place) => place < 0)) throw new Problem("one of these runs is not in the file", 404);
  const of = <T>(values: T[]): T[] => at.map((place) => values[place]!);
  const chosen = (row: Difference): Difference => ({ key: row.key, values: of(row.values), origins: row.origins.length > 0 ? of(row.origins) : [] });
  const differs = (row: Difference) => row.values.some((value) => JSON.stringify(value) !== JSON.stringify(row.values[0]));
  const options = all.options.map(chosen);
  const now = options.filter((row) => !differs(row) && row.values[0] !== null).map(({ key, values }) => ({ key, value: values[0]! }));
  return {
    runs: of(all.runs),
    options: options.filter(differs),
    facts: all.facts.map(chosen).filter(differs),
    metrics: all.metrics.map(({ tag, values }) => ({ tag, values: of(values) })).filter(({ values }) => values.some((value) => value !== null)),
    edits: of(all.edits),
    about: of(all.about),
    same: [...(all.same ?? []), ...now].sort((a, b) => a.key.localeCompare(b.key)),
  };
}

/** The part of a curve that is asked for, and its average where one is. */
function shown(curve: Curve, params: URLSearchParams): Curve {
  const axis = params.get("axis") ?? "step";
  const epoch = curve.steps_per_epoch || 1;
  const [from, to] = [Number(params.get("from") ?? -Infinity), Number(params.get("to") ?? Infinity)];
  const place = (points: Points, at: number): number => {
    if (axis === "step") return points.step[at]!;
    if (axis === "epoch") return points.step[at]! / epoch;
    return points.time[at]! + (axis === "wall" ? curve.start : 0);
  };
  const cut = (points: Points): Points => {
    const kept = points.step.map((_, at) => at).filter((at) => place(points, at) >= from && place(points, at) <= to);
    return { step: kept.map((at) => points.step[at]!), time: kept.map((at) => points.time[at]!), value: kept.map((at) => points.value[at]!) };
  };
  const weight = Number(params.get("smooth") ?? 0);
  // Where values are not finite is kept by steps.
  return {
    ...curve,
    points: cut(curve.points),
    bad: axis === "step" || axis === "epoch" ? curve.bad.filter(([at]) => axis !== "step" || (at >= from && at <= to)) : [],
    smooth: weight > 0 ? cut(smoothed(curve, weight)) : null,
  };
}

/** The exponential average without the weight of the beginning. A point stands for as many as are left out around it. */
function smoothed({ points, count }: Curve, weight: number): Points {
  const kept = weight ** Math.max(1, count / Math.max(1, points.value.length));
  let [sum, left] = [0, 1];
  const value = points.value.map((value) => {
    [sum, left] = [kept * sum + (1 - kept) * value, left * kept];
    return sum / (1 - left);
  });
  return { ...points, value };
}
