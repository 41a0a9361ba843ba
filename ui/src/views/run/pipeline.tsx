// The pipeline as resolved, where each value came from, and the edits it went through.
import { useMemo, useState } from "preact/hooks";
import { useSession } from "../../api";
import { Download, Empty } from "../../parts";
import type { RunPage } from "../../types";
import { EditPipeline } from "./edit";
import { Edits } from "./edits";

interface Line {
  text: string;
  key: string | null;
  origin: string | null;
}

export function Pipeline({ page }: { page: RunPage }) {
  const session = useSession();
  const [editing, setEditing] = useState(false);
  const [search, setSearch] = useState("");
  const lines = useMemo(() => withOrigins(page.pipeline ?? "", page.origins), [page.pipeline, page.origins]);
  const edits = page.edits.filter((edit) => edit.outcome !== "started");
  if (page.pipeline === null) return <Empty>The run has no `pipeline.toml`.</Empty>;
  if (editing) return <EditPipeline page={page} onClose={() => setEditing(false)} />;
  const words = search.toLowerCase();
  return (
    <div class="split">
      <section>
        <div class="controls">
          <input type="search" placeholder="search the pipeline" aria-label="search the pipeline" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
          <Download run={page.id} path="pipeline.toml">
            pipeline.toml
          </Download>
          {session.writes && page.run.status === "running" && (
            <button class="main" data-ask="edit" onClick={() => setEditing(true)}>
              edit
            </button>
          )}
        </div>
        <div class="sheet">
          <table class="toml">
            <tbody>
              {lines.map((line, at) => (
                <tr key={at} class={words && `${line.text} ${line.origin ?? ""}`.toLowerCase().includes(words) ? "found" : ""}>
                  <td class="line">{at + 1}</td>
                  <td class="code">
                    <Toml text={line.text} />
                  </td>
                  <td class="origin">{line.origin}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </section>
      {edits.length > 0 && (
        <section>
          <h2>Edits</h2>
          <Edits edits={edits} />
        </section>
      )}
    </div>
  );
}

/** Lines with the place that the server knows for their key. Keys of tables of a list are counted. */
function withOrigins(text: string, origins: Record<string, string>): Line[] {
  let table = "";
  const seen: Record<string, number> = {};
  return text.replace(/\n$/, "").split("\n").map((line) => {
    const list = /^\[\[(.+)\]\]$/.exec(line);
    const plain = /^\[([^[].*)\]$/.exec(line);
    if (list) {
      const name = list[1]!;
      seen[name] = (seen[name] ?? -1) + 1;
      table = `${name}[${seen[name]}]`;
      return { text: line, key: table, origin: origins[table] ?? null };
    }
    if (plain) {
      table = plain[1]!;
      return { text: line, key: table, origin: origins[table] ?? null };
    }
    const option = /^([\w.-]+|"[^"]*")\s*=/.exec(line);
    const key = option ? (table ? `${table}.${option[1]}` : option[1]!) : null;
    return { text: line, key, origin: key ? (origins[key] ?? null) : null };
  });
}

/** A line with its parts told apart. */
function Toml({ text }: { text: string }) {
  if (text.startsWith("[")) return <span class="t-table">{text}</span>;
  if (text.trimStart().startsWith("#")) return <span class="soft">{text}</span>;
  const option = /^(\s*)([\w.-]+|"[^"]*")(\s*=\s*)(.*)$/.exec(text);
  if (!option) return <span>{text}</span>;
  const [, indent, key, equals, value] = option;
  return (
    <>
      {indent}
      <span class="t-key">{key}</span>
      {equals}
      <span class={/^["']/.test(value!) ? "t-text" : "t-value"}>{value}</span>
    </>
  );
}
