// What the run said, live; the latest part of it, so that a day of it needs no more room than an hour.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, useChanged } from "../../api";
import { bytes } from "../../format";
import { Download, Empty } from "../../parts";

interface Part {
  from: number;
  to: number;
  length: number;
  text: string;
}

/** So much text is kept. */
const KEPT = 1 << 20;

/** The console of a run, or the log of its job; beside others `search` is that of all of them. */
export function Console({ id, search: given, log }: { id: string; search?: string; log?: string }) {
  const [text, setText] = useState<{ from: number; to: number; text: string } | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [own, setSearch] = useState("");
  const search = given ?? own;
  const [follow, setFollow] = useState(true);
  const box = useRef<HTMLPreElement>(null);
  const state = useRef(text);
  state.current = text;
  const busy = useRef(false);
  const read = async () => {
    if (busy.current) return;
    busy.current = true;
    try {
      for (;;) {
        const now = state.current;
        const part = await get<Part>(`runs/${id}/console?${new URLSearchParams({ ...(now && { from: String(now.to) }), ...(log && { job: "true" }) })}`);
        setError(null);
        // It begins elsewhere where the console was begun anew.
        const goes = now && part.from === now.to;
        const whole = goes ? now.text + part.text : part.text;
        const cut = Math.max(0, whole.length - KEPT);
        const next = { from: goes ? now.from + cut : part.from + cut, to: part.to, text: whole.slice(cut) };
        state.current = next;
        setText(next);
        if (part.to >= part.length || part.text === "") break;
      }
    } catch (problem) {
      setError(problem instanceof Error ? problem.message : String(problem));
    } finally {
      busy.current = false;
    }
  };
  useEffect(() => void read(), [id]);
  useChanged([log ? "job" : "console"], () => void read(), 500);
  useEffect(() => {
    if (follow && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text, follow, search]);
  if (error && !text) return <p class="error">{error}</p>;
  if (!text) return null;
  if (text.to === 0) return <Empty>{log ? "The job has said nothing." : "The run has said nothing."}</Empty>;
  const lines = search ? text.text.split("\n").filter((line) => line.toLowerCase().includes(search.toLowerCase())) : null;
  return (
    <>
      <div class="controls">
        {given === undefined && (
          <input type="search" placeholder="lines with" aria-label="search the console" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
        )}
        {lines && <span class="soft">{lines.length} lines</span>}
        <label class="check">
          <input type="checkbox" checked={follow} onChange={() => setFollow(!follow)} /> follow
        </label>
        <Download run={id} path={log ?? "console.log"}>
          all of it ({bytes(text.to)})
        </Download>
        {text.from > 0 && <span class="soft">the latest part is shown</span>}
      </div>
      <pre
        class="console"
        ref={box}
        tabIndex={0}
        onScroll={(event) => {
          const element = event.currentTarget;
          const end = element.scrollHeight - element.scrollTop - element.clientHeight < 30;
          if (end !== follow) setFollow(end);
        }}
      >
        {lines ? lines.join("\n") : text.text}
      </pre>
    </>
  );
}
