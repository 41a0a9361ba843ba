// Asking for what is shown, and hearing of what changes.
import { createContext } from "preact";
import { useContext, useEffect, useRef, useState } from "preact/hooks";
import { Problem } from "./problem";
import { source } from "./source";
import type { Session } from "./types";
import { reset } from "./url";

export { Problem, source };

export const get = <T,>(path: string, signal?: AbortSignal) => source.get(path, signal) as Promise<T>;

export const post = <T,>(path: string, body: unknown) => source.post(path, body) as Promise<T>;

/** Becomes known with the token that the address came with, which then leaves it. */
export async function begin(): Promise<Session> {
  const token = source.served ? new URLSearchParams(location.hash.slice(1)).get("token") : null;
  if (token) {
    reset();
    await post("login", { token }).catch(() => null);
  }
  return get<Session>("session");
}

export const SessionContext = createContext<Session>({ reads: true, writes: false, version: "", roots: [] });

export const useSession = () => useContext(SessionContext);

export interface Data<T> {
  data: T | undefined;
  error: Problem | undefined;
  loading: boolean;
  reload: () => void;
}

/** What an address answers, anew when it is another or `reload` is called; what there was stays until then. */
export function useData<T>(path: string | null): Data<T> {
  const [state, set] = useState<{ data?: T; error?: Problem; loading: boolean }>({ loading: true });
  const [turn, again] = useState(0);
  useEffect(() => {
    if (path === null) return;
    const abort = new AbortController();
    set((now) => ({ ...now, loading: true }));
    get<T>(path, abort.signal).then(
      (data) => !abort.signal.aborted && set({ data, loading: false }),
      (error) => !abort.signal.aborted && set((now) => ({ ...(now.data && { data: now.data }), error, loading: false })),
    );
    return () => abort.abort();
  }, [path, turn]);
  return { data: state.data, error: state.error, loading: state.loading, reload: () => again((n) => n + 1) };
}

export type Heard = (run: string, changed: string[]) => void;

/** Hears what changes; not while the page is hidden, after which everything may have. */
export class Live {
  private source: EventSource | undefined;
  private readonly heard = new Set<Heard>();
  private closed = false;
  onTable: (() => void) | undefined;
  onState: ((connected: boolean) => void) | undefined;

  constructor(private readonly query: string) {
    document.addEventListener("visibilitychange", this.visible);
    this.open();
  }

  on(heard: Heard): () => void {
    this.heard.add(heard);
    return () => void this.heard.delete(heard);
  }

  close(): void {
    this.closed = true;
    document.removeEventListener("visibilitychange", this.visible);
    this.source?.close();
  }

  private readonly visible = () => {
    if (document.hidden) {
      this.source?.close();
      this.source = undefined;
    } else if (!this.source && !this.closed) {
      this.open();
      this.all();
    }
  };

  private all(): void {
    this.heard.forEach((each) => each("*", ["*"]));
    this.onTable?.();
  }

  private open(): void {
    if (document.hidden) return;
    const source = new EventSource(`/api/live?${this.query}`);
    let lost = false;
    source.addEventListener("hello", () => {
      if (lost) this.all();
      lost = false;
      this.onState?.(true);
    });
    source.addEventListener("run", (event) => {
      const { run, changed } = JSON.parse((event as MessageEvent).data);
      this.heard.forEach((each) => each(run, changed));
    });
    source.addEventListener("table", () => this.onTable?.());
    source.addEventListener("error", () => {
      lost = true;
      this.onState?.(false);
      // A refusal ends the source for good: later once more.
      if (source.readyState === EventSource.CLOSED && !this.closed && this.source === source) {
        this.source = undefined;
        setTimeout(() => !this.closed && !this.source && this.open(), 3000);
      }
    });
    this.source = source;
  }
}

export const LiveContext = createContext<Live | null>(null);

/** One connection for a view. */
export function useLive(query: string | null): { live: Live | null; connected: boolean } {
  const [live, set] = useState<Live | null>(null);
  const [connected, setConnected] = useState(true);
  useEffect(() => {
    if (query === null || !source.served) return;
    const own = new Live(query);
    own.onState = setConnected;
    set(own);
    return () => own.close();
  }, [query]);
  return { live, connected };
}

/** Calls back, at most once in `every` milliseconds, when one of these parts of a run has changed. */
export function useChanged(parts: string[], act: () => void, every = 400): void {
  const live = useContext(LiveContext);
  const latest = useRef(act);
  latest.current = act;
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let last = 0;
    const off = live?.on((_, changed) => {
      if (timer !== undefined || !(changed.includes("*") || changed.some((part) => parts.includes(part)))) return;
      timer = setTimeout(() => {
        timer = undefined;
        last = performance.now();
        latest.current();
      }, Math.max(0, last + every - performance.now()));
    });
    return () => {
      off?.();
      clearTimeout(timer);
    };
  }, [live, parts.join()]);
}
