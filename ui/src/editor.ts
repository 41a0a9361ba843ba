// An editor of TOML that marks what is wrong at its place.
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { HighlightStyle, StreamLanguage, bracketMatching, syntaxHighlighting } from "@codemirror/language";
import { toml } from "@codemirror/legacy-modes/mode/toml";
import { type Diagnostic, lintGutter, setDiagnostics } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { EditorView, drawSelection, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import type { Finding } from "./types";

const colours = HighlightStyle.define([
  { tag: tags.propertyName, color: "var(--text)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--good)" },
  { tag: [tags.number, tags.atom, tags.bool], color: "var(--warn)" },
  { tag: tags.comment, color: "var(--soft)", fontStyle: "italic" },
  { tag: [tags.keyword, tags.bracket], color: "var(--accent)" },
]);

const look = EditorView.theme({
  "&": { height: "62vh", fontSize: "12.5px", background: "var(--field)", color: "var(--text)", border: "1px solid var(--line)", borderRadius: "8px" },
  "&.cm-focused": { outline: "2px solid var(--accent)" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.5" },
  ".cm-content": { caretColor: "var(--text)" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-gutters": { background: "var(--card)", color: "var(--soft)", border: "none", borderRight: "1px solid var(--line)" },
  ".cm-activeLine, .cm-activeLineGutter": { background: "var(--hover)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { background: "var(--chosen)" },
  ".cm-tooltip": { background: "var(--card)", color: "var(--text)", border: "1px solid var(--line)", maxWidth: "60ch" },
});

export interface Editor {
  text: () => string;
  /** Marks findings at their places. */
  mark: (findings: Finding[]) => void;
  /** Shows a line. */
  show: (line: number, column: number | null) => void;
  close: () => void;
}

/** Puts an editor into an element. Its styles live in a shadow of their own, where no policy against styles of elsewhere is needed. */
export function edit(host: HTMLElement, text: string, changed: () => void): Editor {
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  const state = EditorState.create({
    doc: text,
    extensions: [
      lineNumbers(),
      lintGutter(),
      history(),
      drawSelection(),
      highlightActiveLine(),
      bracketMatching(),
      StreamLanguage.define(toml),
      syntaxHighlighting(colours),
      look,
      keymap.of([...defaultKeymap, ...historyKeymap, indentWithTab]),
      EditorView.contentAttributes.of({ "aria-label": "the pipeline" }),
      EditorView.updateListener.of((update) => update.docChanged && changed()),
    ],
  });
  const view = new EditorView({ state, parent: root, root });
  const at = (line: number, column: number | null) => {
    const here = view.state.doc.line(Math.min(Math.max(line, 1), view.state.doc.lines));
    // Columns count characters, positions the halves of those beyond the first 65,536.
    const before = [...here.text].slice(0, (column ?? 1) - 1).join("").length;
    return { from: Math.min(here.from + before, here.to), line: here };
  };
  return {
    text: () => view.state.doc.toString(),
    mark: (findings) => {
      const marks = findings.map((finding): Diagnostic => {
        const { from, line } = at(finding.line ?? 1, finding.column);
        const message = finding.help ? `${finding.message}\n${finding.help}` : finding.message;
        return { from, to: Math.max(from, line.to), severity: finding.severity === "error" ? "error" : "warning", message };
      });
      view.dispatch(setDiagnostics(view.state, marks.sort((a, b) => a.from - b.from)));
    },
    show: (line, column) => {
      view.dispatch({ selection: { anchor: at(line, column).from }, scrollIntoView: true });
      view.focus();
    },
    close: () => view.destroy(),
  };
}
