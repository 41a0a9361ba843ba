// The keys.
import { useEffect, useRef, useState } from "preact/hooks";

const KEYS: [string, string][] = [
  ["/", "filter of the table, search of curves"],
  ["j k", "next and previous run of the table"],
  ["x", "choose the run"],
  ["Enter", "open it"],
  ["c", "compare the chosen runs"],
  ["1 … 9", "the views of a run or a comparison; ← → from one to the next where one is chosen"],
  ["← →", "images: the step before and after"],
  ["Esc", "leave a field, let go of a choice"],
  ["?", "this"],
];

/** Whether a key was meant for a field. */
export function typing(event: KeyboardEvent): boolean {
  const target = event.target as HTMLElement;
  return target.matches("input:not([type=checkbox]):not([type=range]), textarea, select") || event.metaKey || event.ctrlKey || event.altKey;
}

/** Hears keys that were not meant for a field. */
export function useKeys(act: (key: string, event: KeyboardEvent) => void): void {
  const latest = useRef(act);
  // While it is drawn, so that the next key finds it, however soon that comes.
  latest.current = act;
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      if (event.key === "Escape") (document.activeElement as HTMLElement | null)?.blur();
      if (!typing(event)) latest.current(event.key, event);
    };
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  }, []);
}

export function Help() {
  const [open, setOpen] = useState(false);
  useKeys((key) => {
    if (key === "?") setOpen(!open);
    if (key === "Escape") setOpen(false);
    if (key === "/") {
      const search = document.querySelector<HTMLInputElement>("input[type=search]");
      setTimeout(() => search?.focus());
    }
  });
  useEffect(() => {
    const listen = () => setOpen((open) => !open);
    addEventListener("pipe-help", listen);
    return () => removeEventListener("pipe-help", listen);
  }, []);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => box.current?.focus(), [open]);
  if (!open) return null;
  return (
    <div class="veil" onClick={() => setOpen(false)}>
      <div class="dialog" role="dialog" aria-modal="true" aria-label="keys" tabIndex={-1} ref={box} onClick={(event) => event.stopPropagation()}>
        <h2>Keys</h2>
        <dl class="keys">
          {KEYS.map(([key, what]) => (
            <div key={key}>
              <dt>
                {key.split(" ").map((each) => (
                  <kbd key={each}>{each}</kbd>
                ))}
              </dt>
              <dd>{what}</dd>
            </div>
          ))}
        </dl>
        <p class="soft">Curves: drag to zoom, double click for the whole. All of a view is in its address: copy it.</p>
      </div>
    </div>
  );
}
