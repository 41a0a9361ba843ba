// Checkpoints and files, to be downloaded.
import { useState } from "preact/hooks";
import { source, useChanged, useData } from "../../api";
import { Download, Failure } from "../../parts";
import { bytes, date, text } from "../../format";
import type { Json, RunPage } from "../../types";

interface Listed {
  folder: string;
  files: { path: string; bytes: number; time: number }[];
  more: boolean;
}

/** Names of the best checkpoints, wherever `best.json` has them. */
function namesIn(value: Json): string[] {
  if (Array.isArray(value)) return value.flatMap(namesIn);
  if (value === null || typeof value !== "object") return [];
  const own = value["name"];
  return [...(typeof own === "string" ? [own] : []), ...namesIn(value["best"] ?? null)];
}

export function Files({ page }: { page: RunPage }) {
  const { data, error, reload } = useData<Listed>(source.served ? `runs/${page.id}/files` : null);
  useChanged(["run"], reload, 5000);
  const [search, setSearch] = useState("");
  const best = namesIn(page.checkpoints.best);
  const monitor = (page.checkpoints.best as { monitor?: Json } | null)?.monitor;
  const files = data?.files.filter((file) => file.path.toLowerCase().includes(search.toLowerCase())) ?? [];
  const inside = (name: string) => data?.files.filter((file) => file.path.startsWith(`checkpoints/${name}/`) && file.path.endsWith(".safetensors")) ?? [];
  return (
    <>
      {page.checkpoints.all.length > 0 && (
        <>
          <h2>Checkpoints</h2>
          <div class="sheet">
            <table class="beside">
              <tbody>
                {page.checkpoints.all
                  .slice()
                  .reverse()
                  .map((checkpoint) => (
                    <tr key={checkpoint.name}>
                      <th scope="row">
                        {checkpoint.name}{" "}
                        {best.includes(checkpoint.name) && (
                          <span class="badge best" title={`by ${text(monitor)}`}>
                            best
                          </span>
                        )}
                      </th>
                      <td class="num">{bytes(checkpoint.bytes)}</td>
                      <td>{checkpoint.time === null ? "" : date(checkpoint.time)}</td>
                      <td>
                        {inside(checkpoint.name).map((file) => (
                          <Download run={page.id} path={file.path} key={file.path}>
                            {file.path.split("/").pop()}{" "}
                          </Download>
                        ))}
                      </td>
                    </tr>
                  ))}
              </tbody>
            </table>
          </div>
        </>
      )}
      {source.served ? <h2>Files</h2> : <p class="soft">The run's files are not in this one.</p>}
      {error && <Failure problem={error} retry={reload} />}
      {data && (
        <>
          <div class="controls">
            <input type="search" placeholder="search files" aria-label="search files" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
            <code class="soft">{data.folder}</code>
          </div>
          <div class="sheet">
            <table class="beside">
              <tbody>
                {files.map((file) => (
                  <tr key={file.path}>
                    <th scope="row">
                      <Download run={page.id} path={file.path}>
                        {file.path}
                      </Download>
                    </th>
                    <td class="num">{bytes(file.bytes)}</td>
                    <td>{date(file.time)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          {data.more && <p class="soft">There are more files than are listed.</p>}
        </>
      )}
    </>
  );
}
