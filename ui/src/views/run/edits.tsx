// What a run's pipeline went through while the run was at work.
import { date } from "../../format";
import type { Edit } from "../../types";

export function Edits({ edits }: { edits: Edit[] }) {
  return (
    <>
      {edits.map((edit, at) => (
        <div class={`edit ${edit.outcome}`} key={at}>
          <b>
            {titleOf(edit)}
          </b>
          <small> {date(edit.time)}</small>
          {edit.why && <p>“{edit.why}”</p>}
          {edit.reason && <pre>{edit.reason}</pre>}
          <ul>
            {(edit.changes ?? []).map((change, index) => (
              <li key={index}>
                <code>{change.name}</code> {change.change} <small>{[change.place, change.meaning?.replace("_", " ")].filter(Boolean).join(", ")}</small>
              </li>
            ))}
          </ul>
          {edit.rebuilt && edit.rebuilt.length > 0 && <small>rebuilt with it: {edit.rebuilt.join(", ")}</small>}
        </div>
      ))}
    </>
  );
}

/** What was done, by whom, and when. */
export function titleOf(edit: Edit): string {
  const by = edit.author ? ` by ${edit.author}` : "";
  if (edit.outcome === "stop" || edit.outcome === "checkpoint") return `asked for a ${edit.outcome}${by} after step ${edit.step}`;
  return `edit ${edit.edit}${by}, ${edit.outcome.replace("_", " ")} after step ${edit.step}`;
}
