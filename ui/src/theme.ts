// Light or dark: as the system is, unless one says otherwise.
import { useEffect, useState } from "preact/hooks";

const KEY = "pipe-theme";
const listeners = new Set<() => void>();
const system = matchMedia("(prefers-color-scheme: dark)");
system.addEventListener("change", () => apply());

export function isDark(): boolean {
  const own = localStorage.getItem(KEY);
  return own ? own === "dark" : system.matches;
}

export function apply(): void {
  document.documentElement.dataset["theme"] = isDark() ? "dark" : "light";
  listeners.forEach((each) => each());
}

export function toggle(): void {
  const dark = !isDark();
  if (dark === system.matches) localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, dark ? "dark" : "light");
  apply();
}

/** Draws anew when the theme is another. */
export function useTheme(): boolean {
  const [dark, set] = useState(isDark());
  useEffect(() => {
    const listen = () => set(isDark());
    listeners.add(listen);
    return () => void listeners.delete(listen);
  }, []);
  return dark;
}

const LIGHT = ["#2563eb", "#d9480f", "#15803d", "#be2d91", "#7c3aed", "#0e7490", "#a16207", "#dc2626", "#4d7c0f", "#52607a"];
const DARK = ["#6ea8ff", "#ff9b57", "#4fd18b", "#ff7ac6", "#b79bff", "#3ecbe0", "#e8b93c", "#ff7b7b", "#a5d64c", "#a9b4c4"];

/** Ten colours, and with dashes ten more: the look of the run at this place. */
export function look(at: number, dark: boolean): { colour: string; dash: number[] } {
  const colours = dark ? DARK : LIGHT;
  const dashes = [[], [7, 4], [2, 3]];
  return { colour: colours[at % 10] ?? "#888", dash: dashes[Math.floor(at / 10) % 3] ?? [] };
}
