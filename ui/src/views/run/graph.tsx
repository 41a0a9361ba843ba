// The nodes of the pipeline, drawn: what each is made of, and what runs on which event.
import { useMemo, useState } from "preact/hooks";
import { date, text } from "../../format";
import { Empty } from "../../parts";
import type { RunPage } from "../../types";
import { type Edge, graphOf, type Node } from "./layout";
import { sharesOf } from "./shares";

const [W, H, GAP_X, GAP_Y] = [168, 46, 74, 18];

export function Graph({ page }: { page: RunPage }) {
  const { nodes, edges } = useMemo(() => graphOf(page.run.options, page.origins), [page.run.options, page.origins]);
  const [near, setNear] = useState<string | null>(null);
  const [chosen, choose] = useState<string | null>(null);
  if (nodes.length === 0) return <Empty>The run has no `pipeline.toml` that can be read.</Empty>;
  const place = new Map(nodes.map((node) => [node.id, node]));
  const x = (node: Node) => 10 + node.layer * (W + GAP_X);
  const y = (node: Node) => 10 + node.row * (H + GAP_Y);
  const width = 20 + Math.max(...nodes.map((node) => x(node) + W));
  const height = 20 + Math.max(...nodes.map((node) => y(node) + H));
  const lit = (edge: Edge) => near !== null && (edge.from === near || edge.to === near);
  const node = chosen ? place.get(chosen) : undefined;
  const shares = sharesOf(page, nodes);
  return (
    <div class="split">
      <div class="graph card">
        <svg width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="img" aria-label="the nodes of the pipeline">
          <defs>
            {["data", "event", "lit"].map((name) => (
              <marker id={`head-${name}`} viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" key={name}>
                <path d="M0,0L8,4L0,8z" class={`head-${name}`} />
              </marker>
            ))}
          </defs>
          {edges.map((edge, at) => {
            const [from, to] = [place.get(edge.from)!, place.get(edge.to)!];
            return (
              <path key={at} d={curve(x(from), y(from), x(to), y(to))} class={`edge ${edge.event ? "event" : ""} ${lit(edge) ? "lit" : near ? "pale" : ""}`} marker-end={`url(#head-${lit(edge) ? "lit" : edge.event ? "event" : "data"})`}>
                <title>{edge.event ? `${edge.label}: ${edge.to}` : `${edge.to}.${edge.label} = ${edge.from}`}</title>
              </path>
            );
          })}
          {nodes.map((node) => (
            <g
              key={node.id}
              class={`node k-${node.kind} ${chosen === node.id ? "chosen" : ""} ${shares?.works === node.id ? "works" : ""}`}
              transform={`translate(${x(node)},${y(node)})`}
              tabIndex={0}
              role="button"
              aria-label={[node.id, shares?.words(node.id)].filter(Boolean).join(", ")}
              aria-pressed={chosen === node.id}
              onMouseEnter={() => setNear(node.id)}
              onMouseLeave={() => setNear(null)}
              onClick={() => choose(chosen === node.id ? null : node.id)}
              onFocus={() => setNear(node.id)}
              onBlur={() => setNear(null)}
              onKeyDown={(event) => {
                if (event.key !== "Enter" && event.key !== " ") return;
                event.preventDefault();
                choose(chosen === node.id ? null : node.id);
              }}
            >
              <rect width={W} height={H} rx="7" />
              <rect width="5" height={H} rx="2.5" class="stripe" />
              <text x="14" y="19" class="id">
                {cut(node.id, 23)}
              </text>
              <text x="14" y="36" class="type">
                {cut(node.type, 17)}
              </text>
              {shares && shares.of(node.id) >= 0.05 && (
                <>
                  <title>{shares.words(node.id)}</title>
                  <rect class="share" x="5" y={H - 4} width={((W - 7) * Math.min(100, shares.of(node.id))) / 100} height="4" />
                  <text x={W - 8} y="36" class="percent" text-anchor="end">
                    {shares.of(node.id).toFixed(shares.of(node.id) < 10 ? 1 : 0)} %
                  </text>
                </>
              )}
            </g>
          ))}
          {edges
            .filter((edge) => lit(edge) && edge.event)
            .map((edge, at) => {
              const to = place.get(edge.to)!;
              return (
                <text x={x(to) - 6} y={y(to) + 12} text-anchor="end" class="edge-name" key={at}>
                  {edge.label}
                </text>
              );
            })}
        </svg>
        <p class="soft">
          Solid: what a node is made of. Dashed: what runs on an event; hover over a node for which. Click for its options.
          {shares && ` Bars: shares of the training thread's time, ${shares.works ? "in the last minute; what is at work most is framed" : `in the minute up to ${date(shares.until)}`}.`}
        </p>
      </div>
      {node && (
        <section class="card">
          <h3>{node.id}</h3>
          {shares?.words(node.id) && <p class="soft">{shares.words(node.id)}</p>}
          <table class="beside">
            <tbody>
              {node.options.map(([key, value, origin]) => (
                <tr key={key}>
                  <th scope="row">{key}</th>
                  <td class="wrap">
                    {text(value)}
                    {origin && <small class="origin">{origin}</small>}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
    </div>
  );
}

const cut = (text: string, most: number) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function curve(x0: number, y0: number, x1: number, y1: number): string {
  const [sx, sy, tx, ty] = [x0 + W, y0 + H / 2, x1, y1 + H / 2];
  if (tx > sx) {
    const middle = Math.max(30, (tx - sx) / 2);
    return `M${sx},${sy}C${sx + middle},${sy} ${tx - middle},${ty} ${tx - 1},${ty}`;
  }
  // To a node of the same column or one before it: round on the left.
  return `M${x0},${sy}C${x0 - 46},${sy} ${tx - 46},${ty} ${tx - 1},${ty}`;
}
