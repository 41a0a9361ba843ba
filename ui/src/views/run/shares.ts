// How the training thread's time is shared among the nodes.
import { text } from "../../format";
import type { RunPage } from "../../types";
import type { Node } from "./layout";

/** The option of an engine that names the node which a phase is of; the others are the engine's own. */
const PHASES: Record<string, string> = { "data wait": "loader", forward: "model", backward: "model", "optimizer step": "optimizer" };

/** A measure that is older than this says nothing about now. */
const FRESH = 20;

export function sharesOf(page: RunPage, nodes: Node[]) {
  const { shares } = page;
  if (!shares) return null;
  const by = new Map<string, { mean: number; last: number; parts: string[] }>();
  for (const [name, { mean, last }] of Object.entries(shares.parts)) {
    const [engine, phase] = name.split("/");
    const option = phase && PHASES[phase];
    const own = option ? nodes.find((node) => node.id === engine)?.options.find(([key]) => key === option)?.[1] : undefined;
    const node = (own !== undefined && nodes.find((node) => node.id === text(own))?.id) || engine!;
    const known = by.get(node) ?? { mean: 0, last: 0, parts: [] };
    const part = `${phase ? `${phase}${node === engine ? "" : ` in ${engine}`} ` : ""}${mean.toFixed(1)} %`;
    by.set(node, { mean: known.mean + mean, last: known.last + last, parts: [...known.parts, part] });
  }
  const live = page.run.status === "running" && Date.now() / 1000 - shares.until < FRESH;
  const most = [...by].sort((a, b) => b[1].last - a[1].last)[0];
  return {
    until: shares.until,
    of: (node: string) => by.get(node)?.mean ?? 0,
    words: (node: string) => by.get(node)?.parts.join(", ") ?? "",
    works: live && most && most[1].last > 0 ? most[0] : null,
  };
}
