// Which columns a table has.
import { useState } from "preact/hooks";
import { useData } from "../api";
import type { Keys } from "../types";
import { setParams } from "../url";

const MOST = 200;

export function Chooser({ columns, onClose }: { columns: string[]; onClose: () => void }) {
  const { data } = useData<Keys>("keys");
  const [search, setSearch] = useState("");
  const set = (next: string[]) => setParams({ c: next.length > 0 ? next : ["-"] });
  const flip = (key: string) => set(columns.includes(key) ? columns.filter((column) => column !== key) : [...columns, key]);
  const words = search.toLowerCase().split(/\s+/);
  const fits = (key: string) => words.every((word) => key.toLowerCase().includes(word));
  const shown = ["name", "status", "pipeline", "created", "seconds", "steps", "tags"];
  const move = (at: number, by: number) => {
    const next = columns.slice();
    const [column] = next.splice(at, 1);
    next.splice(at + by, 0, column!);
    set(next);
  };
  return (
    <div class="chooser">
      <div class="chooser-now">
        {columns.map((column, at) => (
          <span class="chip" key={column}>
            {at > 0 && (
              <button onClick={() => move(at, -1)} aria-label={`${column} to the left`}>
                ‹
              </button>
            )}
            {column}
            {at < columns.length - 1 && (
              <button onClick={() => move(at, 1)} aria-label={`${column} to the right`}>
                ›
              </button>
            )}
            <button onClick={() => flip(column)} aria-label={`without ${column}`}>
              ×
            </button>
          </span>
        ))}
        <button class="quiet" onClick={() => setParams({ c: null })}>
          the usual ones
        </button>
        <span class="grow" />
        <button class="quiet" onClick={onClose} aria-label="close">
          ✕
        </button>
      </div>
      <input type="search" placeholder="search options and curves" aria-label="search columns" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
      <div class="chooser-lists">
        <List name="Curves">
          {data?.curves.filter(fits).slice(0, MOST).map((key) => (
            <li key={key}>
              <span title={key}>{key}</span>
              {["last", "min", "max"].map((which) => {
                const full = which === "last" ? key : `${which}(${key})`;
                return (
                  <button class={columns.includes(full) ? "on" : ""} aria-pressed={columns.includes(full)} onClick={() => flip(full)} key={which}>
                    {which}
                  </button>
                );
              })}
            </li>
          ))}
        </List>
        <List name="Options">
          {data?.options.filter(fits).slice(0, MOST).map((key) => <Pick name={key} on={columns.includes(key)} onPick={() => flip(key)} key={key} />)}
        </List>
        <List name="Fields">
          {data?.fields.filter((key) => !shown.includes(key) && fits(key)).map((key) => <Pick name={key} on={columns.includes(key)} onPick={() => flip(key)} key={key} />)}
        </List>
      </div>
    </div>
  );
}

function Pick({ name, on, onPick }: { name: string; on: boolean; onPick: () => void }) {
  return (
    <li>
      <label title={name}>
        <input type="checkbox" checked={on} onChange={onPick} /> <span>{name}</span>
      </label>
    </li>
  );
}

function List({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <h4>{name}</h4>
      <ul>{children}</ul>
    </div>
  );
}
