// Where the nodes of a pipeline stand, and what joins them.
import { text } from "../../format";
import type { Json } from "../../types";

const KINDS = ["dataset", "transform", "sampler", "loader", "model", "optimizer", "scheduler", "metric", "engine", "handler", "sink"];

export interface Node {
  id: string;
  kind: string;
  type: string;
  options: [string, Json, string | undefined][];
  layer: number;
  row: number;
}

export interface Edge {
  from: string;
  to: string;
  label: string;
  event: boolean;
}

/** Nodes are the tables `kind.name`; an edge is a value that names one, also with a property behind a colon. */
export function graphOf(options: Record<string, Json>, origins: Record<string, string>): { nodes: Node[]; edges: Edge[] } {
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
