// The pipeline of a run at work in an editor: checked as one types, with what each change would mean, and applied by the run itself.
import { useEffect, useRef, useState } from "preact/hooks";
import { post } from "../../api";
import { type Editor, edit } from "../../editor";
import type { Finding, PlannedChange, Preview, RunPage } from "../../types";
import { Answered, useAsked, useWords } from "./steer";

const MEANINGS: Record<PlannedChange["meaning"], string> = {
  now: "at the next iteration",
  rebuilt: "at the next iteration; the node is built anew",
  next_epoch: "at the end of the epoch",
  refused: "refused: it cannot change while the run is at work",
};

/** The name of the version that a page shows. */
export const versionOf = (page: RunPage) => page.edits.findLast((edit) => edit.version)?.version ?? null;

export function EditPipeline({ page, onClose }: { page: RunPage; onClose: () => void }) {
  const host = useRef<HTMLDivElement>(null);
  const editor = useRef<Editor | null>(null);
  const [base] = useState({ text: page.pipeline ?? "", version: versionOf(page) });
  const [preview, setPreview] = useState<Preview | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [sent, setSent] = useState<string | null>(null);
  const { asked, reload } = useAsked(page.id);
  const { fields, words } = useWords();
  const turn = useRef(0);
  const check = async () => {
    const own = ++turn.current;
    const text = editor.current?.text() ?? "";
    try {
      const found = await post<Preview>(`runs/${page.id}/check`, { text });
      if (own !== turn.current) return;
      setProblem(null);
      setPreview(found);
      editor.current?.mark(found.diagnostics);
    } catch (error) {
      if (own === turn.current) setProblem((error as Error).message);
    }
  };
  useEffect(() => {
    if (!host.current) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    editor.current = edit(host.current, base.text, () => {
      // What was found is of another text now.
      turn.current++;
      setPreview(null);
      clearTimeout(timer);
      timer = setTimeout(() => void check(), 300);
    });
    void check();
    return () => {
      clearTimeout(timer);
      turn.current++;
      editor.current?.close();
    };
  }, []);
  const answer = asked.find((one) => one.name === sent);
  useEffect(() => {
    if (answer?.stage === "done") onClose();
    if (answer?.stage === "refused" && answer.diagnostics) editor.current?.mark(answer.diagnostics);
  }, [answer?.stage]);
  const meanwhile = versionOf(page) !== base.version;
  const waits = answer !== undefined && (answer.stage === "asked" || answer.stage === "read");
  const ready = preview !== null && preview.valid && !preview.reason && preview.changes.length > 0 && !meanwhile && !waits && page.run.status === "running";
  return (
    <div class="split editing">
      <section>
        <div class="editor" ref={host} />
      </section>
      <section>
        <h2>What this would change</h2>
        {meanwhile && <p class="error">The pipeline has been edited meanwhile. Leave, look at it, and begin anew.</p>}
        {problem && <p class="error">{problem}</p>}
        {!preview && !problem && <p class="empty">Checking…</p>}
        {preview && <Planned preview={preview} show={(finding) => finding.line && editor.current?.show(finding.line, finding.column)} />}
        <form
          class="ask"
          onSubmit={(event) => {
            event.preventDefault();
            const text = editor.current?.text() ?? "";
            post<{ name: string }>(`runs/${page.id}/requests`, { ask: "edit", ...words(), text, version: base.version }).then(
              ({ name }) => (setSent(name), reload()),
              (error) => setProblem(error.message),
            );
          }}
        >
          <div class="line">{fields}</div>
          <div class="line">
            <button class="main" disabled={!ready}>
              apply to the run
            </button>
            <button type="button" class="quiet" onClick={onClose}>
              leave
            </button>
            {page.run.status !== "running" && <small>the run is not at work any more</small>}
          </div>
        </form>
        {answer && <Answered one={answer} running={page.run.status === "running"} />}
      </section>
    </div>
  );
}

function Planned({ preview, show }: { preview: Preview; show: (finding: Finding) => void }) {
  return (
    <div class="planned">
      {preview.diagnostics.map((finding, at) => (
        <div class={`finding ${finding.severity}`} key={at}>
          <button class="link" onClick={() => show(finding)}>
            line {finding.line ?? "?"}
          </button>{" "}
          {finding.message}
          {finding.help && <small> {finding.help}</small>}
        </div>
      ))}
      {preview.reason && <p class="error">{preview.reason}</p>}
      {preview.valid && preview.changes.length === 0 && <p class="empty">Nothing yet.</p>}
      <ul>
        {preview.changes.map((change, at) => (
          <li key={at} class={change.meaning}>
            <code>{change.name}</code> {change.change} <small>{MEANINGS[change.meaning]}</small>
          </li>
        ))}
      </ul>
      {preview.rebuilt.length > 0 && <small>built anew with them: {preview.rebuilt.join(", ")}</small>}
      {preview.valid && preview.changes.length > 0 && !preview.reason && (
        <p class="empty">Before it applies this, the run builds and tries what changes; what does not fit is refused, and nothing changes.</p>
      )}
    </div>
  );
}
