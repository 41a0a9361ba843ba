// The nodes of the pipeline, drawn: what each is made of, and what runs on which event.
import { useMemo, useState } from "preact/hooks";
import { text } from "../../format";
import { Empty } from "../../parts";
import type { Json, RunPage } from "../../types";

const KINDS = ["dataset", "transform", "sampler", "loader", "model", "optimizer", "scheduler", "metric", "engine", "handler", "sink"];

interface Node {
  id: string;
  kind: string;
  type: string;
  options: [string, Json, string | undefined][];
  layer: number;
  row: number;
}

interface Edge {
  from: string;
  to: string;
  label: string;
  event: boolean;
}

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
              class={`node k-${node.kind} ${chosen === node.id ? "chosen" : ""}`}
              transform={`translate(${x(node)},${y(node)})`}
              tabIndex={0}
              role="button"
              aria-label={node.id}
              onMouseEnter={() => setNear(node.id)}
              onMouseLeave={() => setNear(null)}
              onClick={() => choose(chosen === node.id ? null : node.id)}
              onKeyDown={(event) => event.key === "Enter" && choose(node.id)}
            >
              <rect width={W} height={H} rx="7" />
              <rect width="5" height={H} rx="2.5" class="stripe" />
              <text x="14" y="19" class="id">
                {cut(node.id, 23)}
              </text>
              <text x="14" y="36" class="type">
                {cut(node.type, 25)}
              </text>
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
        <p class="soft">Solid: what a node is made of. Dashed: what runs on an event; hover over a node for which. Click for its options.</p>
      </div>
      {node && (
        <section class="card">
          <h3>{node.id}</h3>
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

/** Nodes are the tables `kind.name`; an edge is a value that names one, also with a property behind a colon. */
function graphOf(options: Record<string, Json>, origins: Record<string, string>): { nodes: Node[]; edges: Edge[] } {
  const nodes = new Map<string, Node>();
  for (const [key, value] of Object.entries(options)) {
    const [kind, name, ...rest] = key.split(".");
    if (!kind || !name || !KINDS.includes(kind)) continue;
    const id = `${kind}.${name}`;
    const node = nodes.get(id) ?? { id, kind, type: "", options: [], layer: 0, row: 0 };
    nodes.set(id, node);
    const option = rest.join(".");
    if (option === "type") node.type = text(value);
    if (option) node.options.push([option, value, origins[key]]);
  }
  const named = (value: Json): string[] => {
    const texts = Array.isArray(value) ? value : [value];
    return texts.filter((each) => typeof each === "string").map((each) => each.split(":")[0]!).filter((id) => nodes.has(id));
  };
  const edges: Edge[] = [];
  for (const node of nodes.values()) {
    for (const [option, value] of node.options) {
      for (const from of named(value)) if (from !== node.id) edges.push({ from, to: node.id, label: option, event: false });
    }
  }
  for (let at = 0; options[`on[${at}].event`] !== undefined; at++) {
    const event = text(options[`on[${at}].event`]);
    for (const from of named(event)) {
      for (const to of named(options[`on[${at}].run`] ?? null)) edges.push({ from, to, label: event, event: true });
    }
  }
  layers(nodes, edges);
  return { nodes: [...nodes.values()], edges };
}

/** Each node right of what it is made of; within a column near what it is joined with. */
function layers(nodes: Map<string, Node>, edges: Edge[]): void {
  const all = [...nodes.values()];
  for (let turn = 0; turn < all.length; turn++) {
    let moved = false;
    for (const edge of edges) {
      const [from, to] = [nodes.get(edge.from)!, nodes.get(edge.to)!];
      if (!edge.event && to.layer <= from.layer && from.layer < all.length) {
        to.layer = from.layer + 1;
        moved = true;
      }
    }
    if (!moved) break;
  }
  // What runs on events stands right of the engines, which fire them.
  const last = Math.max(0, ...all.filter((node) => node.kind === "engine").map((node) => node.layer));
  for (const node of all) {
    if (node.kind === "handler" || node.kind === "sink") node.layer = Math.max(node.layer, last + 1);
  }
  const columns = new Map<number, Node[]>();
  all.forEach((node) => columns.set(node.layer, [...(columns.get(node.layer) ?? []), node]));
  for (const column of [...columns.values()]) column.forEach((node, row) => (node.row = row));
  for (let turn = 0; turn < 8; turn++) {
    for (const [, column] of [...columns].sort((a, b) => a[0] - b[0])) {
      const wish = (node: Node) => {
        const rows = edges.flatMap((edge) => (edge.to === node.id ? [nodes.get(edge.from)!.row] : edge.from === node.id ? [nodes.get(edge.to)!.row] : []));
        return rows.length > 0 ? rows.reduce((sum, row) => sum + row, 0) / rows.length : node.row;
      };
      const order = column.map((node) => [wish(node), node] as const).sort((a, b) => a[0] - b[0]);
      order.forEach(([, node], row) => (node.row = row));
    }
  }
}
