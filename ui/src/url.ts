// The state of the page is its address, so that it can be kept, sent and gone back to. Of a file, which has one address, it is what stands
// behind the `#`.
import { useEffect, useMemo, useState } from "preact/hooks";
import { source } from "./source";

const listeners = new Set<() => void>();

addEventListener("popstate", () => listeners.forEach((each) => each()));

/** The address of a view as a browser takes it. */
const written = (to: string) => (source.served ? to : `#${to}`);

/** The view's address. */
function here(): string {
  if (source.served) return location.pathname + location.search;
  return location.hash.startsWith("#/") ? location.hash.slice(1) : "/";
}

function split(address: string): Place {
  const [path, query] = address.split("?");
  return { path: path!, params: new URLSearchParams(query) };
}

export function go(to: string, replace = false): void {
  if (replace) history.replaceState(null, "", written(to));
  else history.pushState(null, "", written(to));
  listeners.forEach((each) => each());
}

/** Leaves out what stands behind the `#`. */
export function reset(): void {
  history.replaceState(null, "", location.pathname + location.search);
}

export interface Place {
  path: string;
  params: URLSearchParams;
}

export function usePlace(): Place {
  const [at, set] = useState(here());
  useEffect(() => {
    const listen = () => set(here());
    listeners.add(listen);
    return () => void listeners.delete(listen);
  }, []);
  return useMemo(() => split(at), [at]);
}

export type Changes = Record<string, string | string[] | null>;

/** The address with some parameters otherwise; null, nothing and no items remove one. */
export function withParams(changes: Changes): string {
  const { path, params } = split(here());
  for (const [name, value] of Object.entries(changes)) {
    params.delete(name);
    const all = Array.isArray(value) ? value : value ? [value] : [];
    all.forEach((each) => params.append(name, each));
  }
  const query = params.toString();
  return path + (query ? `?${query}` : "");
}

export function setParams(changes: Changes, replace = true): void {
  go(withParams(changes), replace);
}

/** A link within the page. */
export function linkTo(to: string) {
  return {
    href: written(to),
    onClick: (event: MouseEvent) => {
      if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      go(to);
    },
  };
}
