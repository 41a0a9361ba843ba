// The state of the page is its address, so that it can be kept, sent and gone back to.
import { useEffect, useMemo, useState } from "preact/hooks";

const listeners = new Set<() => void>();

addEventListener("popstate", () => listeners.forEach((each) => each()));

export function go(to: string, replace = false): void {
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  listeners.forEach((each) => each());
}

export interface Place {
  path: string;
  params: URLSearchParams;
}

export function usePlace(): Place {
  const [at, set] = useState(location.pathname + location.search);
  useEffect(() => {
    const listen = () => set(location.pathname + location.search);
    listeners.add(listen);
    return () => void listeners.delete(listen);
  }, []);
  return useMemo(() => ({ path: location.pathname, params: new URLSearchParams(location.search) }), [at]);
}

export type Changes = Record<string, string | string[] | null>;

/** The address with some parameters otherwise; null, nothing and no items remove one. */
export function withParams(changes: Changes): string {
  const params = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    params.delete(name);
    const all = Array.isArray(value) ? value : value ? [value] : [];
    all.forEach((each) => params.append(name, each));
  }
  const query = params.toString();
  return location.pathname + (query ? `?${query}` : "");
}

export function setParams(changes: Changes, replace = true): void {
  go(withParams(changes), replace);
}

/** A link within the page. */
export function linkTo(to: string) {
  return {
    href: to,
    onClick: (event: MouseEvent) => {
      if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      go(to);
    },
  };
}
