// Small things that views share.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { post, Problem, source, useSession } from "./api";
import type { Job, Status } from "./types";

const SIGNS: Record<Status, string> = { running: "●", done: "✓", failed: "✕", interrupted: "❚❚", lost: "?", submitted: "◔" };
const MEANINGS: Record<Status, string> = {
  running: "at work",
  done: "done",
  failed: "ended with an error",
  interrupted: "was asked to end; it can go on",
  lost: "its process is gone without a word",
  submitted: "has not begun",
};

export function StatusBadge({ status, words }: { status: Status; words?: boolean }) {
  return (
    <span class={`status ${status}`} title={MEANINGS[status]}>
      <i aria-hidden="true">{SIGNS[status]}</i> {words !== false && status}
    </span>
  );
}

/** How the job of a run stands that is not done. */
export function JobState({ job, status }: { job: Job | null; status: Status }) {
  if (!job || status === "done" || (!source.served && job.state === null)) return null;
  return (
    <small class="job" title={`job ${job.job} of ${job.engine}`}>
      {job.state ?? "state unknown"}
    </small>
  );
}

/** A label of a fixed colour, made of its text. */
export function Tag({ tag, onRemove }: { tag: string; onRemove?: () => void }) {
  let hash = 0;
  for (const c of tag) hash = (hash * 31 + c.charCodeAt(0)) >>> 0;
  return (
    <span class={`tag t${hash % 6}`}>
      {tag}
      {onRemove && (
        <button onClick={onRemove} aria-label={`remove ${tag}`}>
          ×
        </button>
      )}
    </span>
  );
}

export function Failure({ problem, retry }: { problem: Problem; retry?: () => void }) {
  return (
    <div class="failure" role="alert">
      <pre>{problem.message}</pre>
      {retry && <button onClick={retry}>try again</button>}
    </div>
  );
}

/** A file of a run, to be downloaded, where there are any. */
export function Download({ run, path, children }: { run: string; path: string; children: ComponentChildren }) {
  const address = source.file(run, path);
  if (address === null) return null;
  return (
    <a href={address} download>
      {children}
    </a>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <div class="nothing">{children}</div>;
}

export function Offline({ connected }: { connected: boolean }) {
  const [late, setLate] = useState(false);
  useEffect(() => {
    if (connected) return setLate(false);
    const timer = setTimeout(() => setLate(true), 1500);
    return () => clearTimeout(timer);
  }, [connected]);
  return late ? (
    <div class="offline" role="status">
      The server does not answer: what is shown may be old. Trying again…
    </div>
  ) : null;
}

export function Tabs<T extends string>({ tabs, now, onTab }: { tabs: [T, string, number?][]; now: T; onTab: (tab: T) => void }) {
  const bar = useRef<HTMLDivElement>(null);
  // In a narrow window the one that is open may be out of sight.
  useEffect(() => {
    const open = bar.current?.querySelector<HTMLElement>(".on");
    if (bar.current && open) bar.current.scrollLeft = open.offsetLeft - bar.current.offsetLeft - 40;
  }, [now, tabs.length]);
  const step = (event: KeyboardEvent) => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    const next = tabs[tabs.findIndex(([key]) => key === now) + by];
    if (by === 0) return;
    // Not for what is below, too.
    event.stopPropagation();
    if (!next) return;
    onTab(next[0]);
    bar.current?.querySelector<HTMLElement>(`[data-tab="${next[0]}"]`)?.focus();
  };
  return (
    <div class="tabs" role="tablist" ref={bar} onKeyDown={step}>
      {tabs.map(([key, name, many]) => (
        <button role="tab" data-tab={key} aria-selected={now === key} tabIndex={now === key ? 0 : -1} class={now === key ? "on" : ""} onClick={() => onTab(key)} key={key}>
          {name}
          {many !== undefined && many > 0 && <small>{many}</small>}
        </button>
      ))}
    </div>
  );
}

/** Changes what is said of a run; says what is wrong. */
export async function editRun(id: string, change: Record<string, unknown>): Promise<string | null> {
  return post(`runs/${id}/about`, change).then(
    () => null,
    (problem) => problem.message as string,
  );
}

/** Name, group, tags and note of a run, to be changed by those who may. */
export function Notes({ id, run, onChange }: { id: string; run: { name: string; group: string | null; tags: string[]; note: string }; onChange: () => void }) {
  const session = useSession();
  const [error, setError] = useState<string | null>(null);
  const [note, setNote] = useState<string | null>(null);
  const change = async (what: Record<string, unknown>) => {
    const wrong = await editRun(id, what);
    setError(wrong);
    if (wrong === null) onChange();
    return wrong === null;
  };
  const field = (event: SubmitEvent) => (event.currentTarget as HTMLFormElement).elements[0] as HTMLInputElement;
  if (!session.writes) {
    return (
      <div class="notes">
        {run.tags.map((tag) => (
          <Tag tag={tag} key={tag} />
        ))}
        {run.note && <p class="note">{run.note}</p>}
      </div>
    );
  }
  return (
    <div class="notes">
      {run.tags.map((tag) => (
        <Tag tag={tag} key={tag} onRemove={() => void change({ untag: [tag] })} />
      ))}
      <form
        class="inline"
        onSubmit={(event) => {
          event.preventDefault();
          const input = field(event);
          const tag = input.value.trim();
          if (tag) void change({ tag: [tag] }).then((done) => done && (input.value = ""));
        }}
      >
        <input class="small" placeholder="+ tag" aria-label="add a tag" size={8} />
      </form>
      {note === null ? (
        <button class={run.note ? "note" : "quiet"} onClick={() => setNote(run.note)} title="change the note">
          {run.note || "+ note"}
        </button>
      ) : (
        <form
          class="note-form"
          onSubmit={(event) => {
            event.preventDefault();
            void change({ note }).then((done) => done && setNote(null));
          }}
        >
          <textarea value={note} rows={3} aria-label="note" onInput={(event) => setNote(event.currentTarget.value)} />
          <button class="main">keep</button>
          <button type="button" class="quiet" onClick={() => setNote(null)}>
            leave
          </button>
        </form>
      )}
      {error && <p class="error">{error}</p>}
    </div>
  );
}

/** The name of a run, which is changed where it stands. */
export function Name({ id, name, group, onChange }: { id: string; name: string; group: string | null; onChange: () => void }) {
  const session = useSession();
  const [edit, setEdit] = useState<{ name: string; group: string } | null>(null);
  const [error, setError] = useState<string | null>(null);
  if (!edit) {
    return (
      <h1>
        {name}
        {group && <small class="soft"> {group}</small>}
        {session.writes && (
          <button class="quiet" onClick={() => setEdit({ name, group: group ?? "" })} aria-label="rename" title="rename, group">
            ✎
          </button>
        )}
      </h1>
    );
  }
  return (
    <form
      class="rename"
      onSubmit={(event) => {
        event.preventDefault();
        void editRun(id, edit).then((wrong) => {
          setError(wrong);
          if (wrong === null) {
            setEdit(null);
            onChange();
          }
        });
      }}
    >
      <input value={edit.name} aria-label="name" placeholder="name" onInput={(event) => setEdit({ ...edit, name: event.currentTarget.value })} />
      <input value={edit.group} aria-label="group" placeholder="group" onInput={(event) => setEdit({ ...edit, group: event.currentTarget.value })} />
      <button class="main">keep</button>
      <button type="button" class="quiet" onClick={() => setEdit(null)}>
        leave
      </button>
      {error && <p class="error">{error}</p>}
    </form>
  );
}
