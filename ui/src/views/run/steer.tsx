// What is asked of a run at work, and what it answers.
import { useState } from "preact/hooks";
import { post, useChanged, useData, useSession } from "../../api";
import { ago } from "../../format";
import type { Asked, RunPage } from "../../types";

const AUTHOR = "pipe-author";

/** Who asks, as this browser remembers it, and why. */
export function useWords() {
  const [author, setAuthor] = useState(localStorage.getItem(AUTHOR) ?? "");
  const [why, setWhy] = useState("");
  const fields = (
    <>
      <input required maxLength={100} value={author} placeholder="your name" aria-label="your name" onInput={(event) => setAuthor(event.currentTarget.value)} />
      <input class="grow" maxLength={500} value={why} placeholder="why" aria-label="why" onInput={(event) => setWhy(event.currentTarget.value)} />
    </>
  );
  const words = () => {
    localStorage.setItem(AUTHOR, author.trim());
    return { author: author.trim(), why: why.trim() };
  };
  return { fields, words };
}

/** Whether something is on its way, and what says that it is until it has come back. */
function useOnce() {
  const [sending, setSending] = useState(false);
  const once = (sent: Promise<unknown>) => {
    setSending(true);
    void sent.finally(() => setSending(false));
  };
  return [sending, once] as const;
}

/** What the run was asked, the latest first. */
export function useAsked(id: string) {
  const { data, reload } = useData<Asked[]>(`runs/${id}/requests`);
  useChanged(["requests", "run"], reload, 300);
  return { asked: data ?? [], reload };
}

const ACTS = {
  checkpoint: { name: "checkpoint now", text: "The run saves a checkpoint before its next iteration, and goes on.", sure: "save a checkpoint" },
  stop: { name: "stop", text: "The run finishes its step, saves a checkpoint and ends. `pipe run --resume` goes on from there.", sure: "stop the run" },
};

const ENGINES = {
  unqueue: { name: "take out of the queue", text: "The job is ended; `pipe runs requeue` puts it back.", sure: "take it out", ask: "stop" },
  requeue: {
    name: "requeue",
    text: "SLURM puts the job back into its queue. A run at work saves a checkpoint first; its next life goes on from there.",
    sure: "requeue it",
    ask: "requeue",
  },
};

/** Buttons that ask who has the job of a run that is not done. */
function Engine({ page }: { page: RunPage }) {
  const [act, setAct] = useState<keyof typeof ENGINES | null>(null);
  const [error, setError] = useState<string | null>(null);
  const [sending, once] = useOnce();
  const { job, status } = page.run;
  if (!job || status === "done") return null;
  const keys = (Object.keys(ENGINES) as (keyof typeof ENGINES)[]).filter((key) => (key === "requeue" ? job.engine === "slurm" : status !== "running"));
  const send = (ask: string) =>
    once(
      post(`runs/${page.id}/job`, { ask }).then(
        () => (setAct(null), setError(null)),
        (problem) => setError(problem.message),
      ),
    );
  return (
    <>
      <span class="acts">
        {keys.map((key) => (
          <button key={key} class={act === key ? "on" : ""} data-job={key} onClick={() => (setAct(act === key ? null : key), setError(null))}>
            {ENGINES[key].name}
          </button>
        ))}
      </span>
      {act && (
        <div class="ask">
          <p>{ENGINES[act].text}</p>
          <div class="line">
            <button class="main" disabled={sending} onClick={() => send(ENGINES[act].ask)}>
              {ENGINES[act].sure}
            </button>
            <button class="quiet" onClick={() => setAct(null)}>
              leave
            </button>
          </div>
          {error && <p class="error">{error}</p>}
        </div>
      )}
    </>
  );
}

/** Buttons that ask a run at work or who has its job, and the latest answers. */
export function Steer({ page }: { page: RunPage }) {
  const session = useSession();
  const { asked, reload } = useAsked(page.id);
  const [act, setAct] = useState<keyof typeof ACTS | null>(null);
  const [all, setAll] = useState(false);
  const steers = session.writes && page.run.status === "running";
  const queued = session.writes && page.run.job !== null && page.run.status !== "done";
  if (!steers && !queued && asked.length === 0) return null;
  const shown = all ? asked : asked.slice(0, 1);
  return (
    <div class="steer">
      {steers && (
        <span class="acts">
          {(Object.keys(ACTS) as (keyof typeof ACTS)[]).map((key) => (
            <button key={key} class={act === key ? "on" : ""} data-ask={key} onClick={() => setAct(act === key ? null : key)}>
              {ACTS[key].name}
            </button>
          ))}
        </span>
      )}
      {queued && <Engine page={page} />}
      {steers && act && <Ask id={page.id} act={act} onDone={() => (setAct(null), reload())} key={act} />}
      {shown.map((one) => (
        <Answered one={one} running={page.run.status === "running"} key={one.name} />
      ))}
      {asked.length > 1 && (
        <button class="link" onClick={() => setAll(!all)}>
          {all ? "only the latest" : `all ${asked.length} requests`}
        </button>
      )}
    </div>
  );
}

/** Says what will be done, and asks for it once that is confirmed. */
function Ask({ id, act, onDone }: { id: string; act: keyof typeof ACTS; onDone: () => void }) {
  const [error, setError] = useState<string | null>(null);
  const [sending, once] = useOnce();
  const { fields, words } = useWords();
  return (
    <form
      class="ask"
      onSubmit={(event) => {
        event.preventDefault();
        once(post(`runs/${id}/requests`, { ask: act, ...words() }).then(onDone, (problem) => setError(problem.message)));
      }}
    >
      <p>{ACTS[act].text}</p>
      <div class="line">
        {fields}
        <button class="main" disabled={sending}>
          {ACTS[act].sure}
        </button>
        <button type="button" class="quiet" onClick={onDone}>
          leave
        </button>
      </div>
      {error && <p class="error">{error}</p>}
    </form>
  );
}

const WORDS = { asked: "not read yet", read: "read", done: "done", refused: "not done" };

export function Answered({ one, running }: { one: Asked; running: boolean }) {
  const open = one.stage === "asked" || one.stage === "read";
  const stage = open && !running ? "the run ended without an answer" : WORDS[one.stage];
  return (
    <div class={`asked ${one.stage}`} role="status">
      <b>{one.ask ?? "a request"}</b>
      {one.author && <> by {one.author}</>}
      {one.why && <> ({one.why})</>}: <b class="stage">{stage}</b> {one.time && <small>{ago(one.time)}</small>}
      {one.said && !open && <pre>{one.said}</pre>}
    </div>
  );
}
