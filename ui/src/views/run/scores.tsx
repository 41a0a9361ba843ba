// How right a model is: precision over recall of a class, and which class is found as which.
import { useState } from "preact/hooks";
import { count, short } from "../../format";

export interface Curve {
  true_positives: number[];
  false_positives: number[];
  positives: number;
}

export function Precision({ value }: { value: Curve }) {
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
      <svg class="pr" viewBox="0 0 300 186" role="img" aria-label="precision over recall" onMouseLeave={() => setNear(null)}>
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
        <text class="axis-tick" x={x(1)} y="180" text-anchor="end">
          recall
        </text>
        <text class="axis-tick" x={x(0) + 4} y={y(1) + 12}>
          precision
        </text>
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

export interface Matrix {
  names: string[];
  /** Row, column and number, those that are not 0. */
  cells: [number, number, number][];
}

/** Of more classes no names are written beside the matrix, and of more no numbers into it. */
const [NAMED, NUMBERED] = [40, 14];

export function Confusion({ value }: { value: Matrix }) {
  const [shares, setShares] = useState(true);
  const [near, setNear] = useState<[number, number] | null>(null);
  const n = value.names.length;
  const rows = new Array<number>(n).fill(0);
  for (const [row, , number] of value.cells) rows[row]! += number;
  const most = Math.max(1, ...value.cells.map((cell) => cell[2]));
  const share = ([row, , number]: Matrix["cells"][number]) => number / Math.max(1, rows[row]!);
  const wrong = value.cells.filter(([row, column]) => row !== column).sort((a, b) => b[2] - a[2]);
  const words = (cell: Matrix["cells"][number]) =>
    `${value.names[cell[0]]} found as ${value.names[cell[1]]}: ${count(cell[2])} of ${count(rows[cell[0]]!)} (${(share(cell) * 100).toFixed(1)} %)`;
  const side = n <= NAMED ? 300 / n : 360 / n;
  const left = n <= NAMED ? 90 : 4;
  const cellAt = near && (value.cells.find(([row, column]) => row === near[0] && column === near[1]) ?? ([...near, 0] as Matrix["cells"][number]));
  // As far down as the longest name goes.
  const foot = 18 + 4.4 * Math.min(13, Math.max(...value.names.map((name) => name.length)));
  const cut = (name: string) => (name.length > 13 ? `${name.slice(0, 12)}…` : name);
  return (
    <>
      <div class="segments" role="group" aria-label="what the cells say">
        <button class={shares ? "on" : ""} aria-pressed={shares} onClick={() => setShares(true)}>
          share of the row
        </button>
        <button class={shares ? "" : "on"} aria-pressed={!shares} onClick={() => setShares(false)}>
          number
        </button>
      </div>
      <svg
        class="confusion"
        viewBox={`0 0 ${left + side * n + 6} ${side * n + (n <= NAMED ? foot : 8)}`}
        role="img"
        aria-label={`confusion matrix of ${n} classes`}
        onMouseLeave={() => setNear(null)}
        onMouseMove={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          const scale = (left + side * n + 6) / box.width;
          const [column, row] = [Math.floor(((event.clientX - box.left) * scale - left) / side), Math.floor((event.clientY - box.top) * scale / side)];
          setNear(row >= 0 && column >= 0 && row < n && column < n ? [row, column] : null);
        }}
      >
        <rect class="ground" x={left} y="0" width={side * n} height={side * n} />
        {value.cells.map((cell) => {
          const strength = shares ? share(cell) : cell[2] / most;
          return (
            <g key={`${cell[0]} ${cell[1]}`}>
              <rect class={cell[0] === cell[1] ? "right" : "wrong"} x={left + cell[1] * side} y={cell[0] * side} width={side} height={side} fill-opacity={0.06 + 0.94 * strength} />
              {n <= NUMBERED && (
                <text class={strength > 0.55 ? "on-dark" : ""} x={left + (cell[1] + 0.5) * side} y={(cell[0] + 0.5) * side + 4} text-anchor="middle">
                  {shares ? (share(cell) * 100).toFixed(0) : short(cell[2])}
                </text>
              )}
            </g>
          );
        })}
        {near && <rect class="near" x={left + near[1] * side} y={near[0] * side} width={side} height={side} />}
        {n <= NAMED &&
          value.names.map((name, at) => (
            <g key={at}>
              <text x={left - 5} y={(at + 0.5) * side + 4} text-anchor="end">
                {cut(name)}
                <title>{name}</title>
              </text>
              <text x={left + (at + 0.5) * side} y={side * n + 6} text-anchor="end" transform={`rotate(-45 ${left + (at + 0.5) * side} ${side * n + 6})`} dy="6">
                {cut(name)}
                <title>{name}</title>
              </text>
            </g>
          ))}
      </svg>
      <p class="soft" aria-live="polite">
        {cellAt ? words(cellAt) : "rows: what it is; columns: what it is found as"}
      </p>
      {wrong.length > 0 && (
        <ul class="confused">
          {wrong.slice(0, 5).map((cell) => (
            <li key={`${cell[0]} ${cell[1]}`}>{words(cell)}</li>
          ))}
        </ul>
      )}
    </>
  );
}
