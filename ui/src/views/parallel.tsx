// Options against a metric: all of them as parallel axes, one of them as a scatter.
import { useMemo, useState } from "preact/hooks";
import { useData } from "../api";
import { num, text } from "../format";
import { Empty } from "../parts";
import { look, useTheme } from "../theme";
import type { Comparison, Json, Study } from "../types";
import type { Shown } from "../curves";
import { setParams, usePlace } from "../url";

interface Axis {
  key: string;
  /** Each run's place from 0 to 1; NaN where it has none. */
  at: number[];
  texts: string[];
  ticks: [number, string][];
}

const [WIDTH, HEIGHT] = [1000, 320];

export function Parallel({ data, runs }: { data: Comparison; runs: Shown[] }) {
  const { params } = usePlace();
  const dark = useTheme();
  const [near, setNear] = useState<number | null>(null);
  const tags = data.metrics.map((metric) => metric.tag);
  const measured = data.metrics.find((metric) => metric.values.some((value) => value?.node.startsWith("metric.")));
  const tag = tags.find((tag) => tag === params.get("metric")) ?? measured?.tag ?? tags[0];
  const of = (["last", "min", "max"] as const).find((each) => each === params.get("of")) ?? "last";
  const study = useData<Study | null>(`study?runs=${runs.map((run) => run.id).join()}`).data;
  const shares = useMemo(() => new Map(study?.importances ?? []), [study]);
  const axes = useMemo(() => {
    const known = data.options.filter((option) => option.values.some((value) => value !== null));
    const options = known.sort((a, b) => (shares.get(b.key) ?? 0) - (shares.get(a.key) ?? 0)).slice(0, 9);
    const metric = data.metrics.find((metric) => metric.tag === tag);
    const axes = options.map((option) => axisOf(option.key, option.values));
    if (metric) axes.push(axisOf(`${of} ${metric.tag}`, metric.values.map((value) => value?.[of]?.value ?? null)));
    return axes;
  }, [data, tag, of, shares]);
  if (!tag || data.options.length === 0) return <Empty>There is nothing to draw: no option differs, or nothing was measured.</Empty>;
  const goal = axes[axes.length - 1]!;
  const x = (axis: number) => 70 + (axis * (WIDTH - 140)) / Math.max(1, axes.length - 1);
  const y = (at: number) => 40 + (1 - at) * (HEIGHT - 70);
  const path = (run: number) => {
    const places = axes.map((axis, index) => [x(index), axis.at[run]!] as const).filter(([, at]) => !Number.isNaN(at));
    return places.map(([left, at], index) => `${index ? "L" : "M"}${left},${y(at)}`).join("");
  };
  const scatter = params.get("option") ?? axes[0]!.key;
  const chosen = axes.find((axis) => axis.key === scatter) ?? axes[0]!;
  return (
    <>
      <div class="controls">
        <label class="check">
          metric
          <select value={tag} onChange={(event) => setParams({ metric: event.currentTarget.value })}>
            {tags.map((tag) => (
              <option key={tag}>{tag}</option>
            ))}
          </select>
        </label>
        <div class="segments">
          {(["last", "min", "max"] as const).map((each) => (
            <button class={of === each ? "on" : ""} aria-pressed={of === each} onClick={() => setParams({ of: each })} key={each}>
              {each}
            </button>
          ))}
        </div>
      </div>
      <section class="card wide">
        <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} class="parallel" role="img" aria-label="options and the metric as parallel axes">
          {axes.map((axis, index) => (
            <g key={axis.key}>
              <line x1={x(index)} x2={x(index)} y1={y(0)} y2={y(1)} class="axis" />
              <text x={x(index) + (index === 0 ? -60 : index === axes.length - 1 ? 60 : 0)} y={20 + (index % 2) * 10} class="axis-name" text-anchor={index === 0 ? "start" : index === axes.length - 1 ? "end" : "middle"}>
                {tail(axis.key, 26)}
                {shares.has(axis.key) && <tspan class="share"> {share(shares.get(axis.key)!)}</tspan>}
              </text>
            </g>
          ))}
          {runs.map((run, index) => (
            <path
              key={run.id}
              d={path(index)}
              fill="none"
              stroke={look(run.at, dark).colour}
              stroke-width={near === index ? 3.5 : 1.8}
              stroke-dasharray={look(run.at, dark).dash.join(" ") || undefined}
              opacity={near === null || near === index ? 0.95 : 0.2}
              onMouseEnter={() => setNear(index)}
              onMouseLeave={() => setNear(null)}
            >
              <title>{`${run.name}\n${axes.map((axis) => `${axis.key}: ${axis.texts[index]}`).join("\n")}`}</title>
            </path>
          ))}
          {axes.map((axis, index) =>
            axis.ticks.map(([at, name]) => (
              <text x={x(index) + (index > 0 && index === axes.length - 1 ? 6 : -6)} y={y(at) + 4} class="axis-tick" text-anchor={index > 0 && index === axes.length - 1 ? "start" : "end"} key={`${axis.key} ${name}`}>
                {tail(name, 12)}
              </text>
            )),
          )}
        </svg>
        {study && <Mattered study={study} />}
      </section>
      <section class="card wide">
        <label class="check">
          option
          <select value={chosen.key} onChange={(event) => setParams({ option: event.currentTarget.value })}>
            {axes.slice(0, -1).map((axis) => (
              <option key={axis.key}>{axis.key}</option>
            ))}
          </select>
        </label>
        <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} class="parallel" role="img" aria-label="the option against the metric">
          <line x1="90" x2={WIDTH - 20} y1={y(0) + 8} y2={y(0) + 8} class="axis" />
          <line x1="90" x2="90" y1={y(0) + 8} y2="20" class="axis" />
          {goal.ticks.map(([at, name]) => (
            <text x="84" y={y(at) + 4} class="axis-tick" text-anchor="end" key={name}>
              {name}
            </text>
          ))}
          {chosen.ticks.map(([at, name]) => (
            <text x={110 + at * (WIDTH - 160)} y={HEIGHT - 6} class="axis-tick" text-anchor="middle" key={name}>
              {tail(name, 20)}
            </text>
          ))}
          {runs.map((run, index) => {
            const [cx, cy] = [chosen.at[index]!, goal.at[index]!];
            if (Number.isNaN(cx) || Number.isNaN(cy)) return null;
            return (
              <circle
                key={run.id}
                cx={110 + cx * (WIDTH - 160)}
                cy={y(cy)}
                r={near === index ? 9 : 6}
                fill={look(run.at, dark).colour}
                opacity="0.85"
                onMouseEnter={() => setNear(index)}
                onMouseLeave={() => setNear(null)}
              >
                <title>{`${run.name}\n${chosen.key}: ${chosen.texts[index]}\n${goal.key}: ${goal.texts[index]}`}</title>
              </circle>
            );
          })}
        </svg>
      </section>
    </>
  );
}

/** Of the whole study, whichever of its runs are shown. */
function Mattered({ study: { name, trials, importances, why } }: { study: Study }) {
  return (
    <p class="soft mattered">
      What mattered in the study {name}
      {why ? ` is not known: ${why}` : `, of ${trials} complete trials: ${importances.map(([key, value]) => `${key} ${share(value)}`).join(", ")} (PED-ANOVA, as Optuna)`}
    </p>
  );
}

const share = (value: number) => value.toFixed(2);

const exact = (value: number) => String(Number(value.toPrecision(4)));

const tail = (text: string, most: number) => (text.length > most ? `…${text.slice(1 - most)}` : text);

/** Numbers by size, by their logarithm where they lie far apart; other values one beside the other. */
function axisOf(key: string, values: Json[]): Axis {
  const numbers = values.map((value) => (typeof value === "number" || typeof value === "string" ? num(value as number) : NaN));
  const finite = numbers.filter((value) => Number.isFinite(value));
  const numeric = finite.length > 0 && values.every((value, at) => value === null || value === "NaN" || Number.isFinite(numbers[at]));
  const texts = values.map((value, at) => (numeric && Number.isFinite(numbers[at]) ? exact(numbers[at]!) : text(value) || "–"));
  if (!numeric) {
    const kinds = [...new Set(texts)].sort();
    const place = (kind: string) => (kinds.length > 1 ? kinds.indexOf(kind) / (kinds.length - 1) : 0.5);
    return { key, at: texts.map(place), texts, ticks: kinds.map((kind) => [place(kind), kind]) };
  }
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const log = low > 0 && high / low > 20;
  const scale = (value: number) => (log ? Math.log(value) : value);
  const place = (value: number) => (high > low ? (scale(value) - scale(low)) / (scale(high) - scale(low)) : 0.5);
  const middle = log ? Math.sqrt(low * high) : (low + high) / 2;
  const ticks = (high > low ? [low, middle, high] : [low]).map((value): [number, string] => [place(value), exact(value)]);
  return { key, at: numbers.map((value) => (Number.isFinite(value) ? place(value) : NaN)), texts, ticks };
}
