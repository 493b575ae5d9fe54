import { yaml } from "@codemirror/lang-yaml";
import { lintGutter, setDiagnostics, type Diagnostic } from "@codemirror/lint";
import { Annotation, Compartment, EditorState, Transaction } from "@codemirror/state";
import { oneDark } from "@codemirror/theme-one-dark";
import { basicSetup, EditorView } from "codemirror";
import { useEffect, useRef } from "react";
import type { Schemas } from "../api/client";
import { useDark } from "../app/theme";

interface Props {
  text: string;
  change: (text: string) => void;
  problems: Schemas["ProblemView"][];
  label: string;
  /** As in CSS. */
  height: string;
  testId: string;
}

/** On changes that do not come from the keyboard. */
const given = Annotation.define<boolean>();

/** On the dark theme's own ground its comments, keys and line numbers are too faint for WCAG AA. */
const DARKER_GROUND = EditorView.theme(
  { "&": { backgroundColor: "#0d1013" }, ".cm-gutters": { backgroundColor: "#0d1013", color: "#a8b2c1" }, ".cm-activeLineGutter": { color: "#d5dbe3" } },
  { dark: true },
);

/** A YAML editor that marks problems at their lines. */
export function YamlEditor({ text, change, problems, label, height, testId }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const editor = useRef<EditorView | null>(null);
  const colours = useRef(new Compartment());
  const changed = useRef(change);
  const isDark = useDark();
  useEffect(() => {
    changed.current = change;
  });
  useEffect(() => {
    if (!box.current) return;
    const made = new EditorView({
      parent: box.current,
      state: EditorState.create({
        doc: "",
        extensions: [
          basicSetup,
          yaml(),
          lintGutter(),
          colours.current.of([]),
          EditorView.contentAttributes.of({ "aria-label": label, tabindex: "0" }),
          EditorView.theme({ "&": { height, minHeight: "320px", fontSize: "13px" }, ".cm-scroller": { overflow: "auto" } }),
          EditorView.updateListener.of((update) => {
            const isTyped = update.transactions.some((one) => one.docChanged && !one.annotation(given));
            if (isTyped) changed.current(update.state.doc.toString());
          }),
        ],
      }),
    });
    editor.current = made;
    return () => made.destroy();
  }, [label, height]);
  useEffect(() => {
    editor.current?.dispatch({ effects: colours.current.reconfigure(isDark ? [DARKER_GROUND, oneDark] : []) });
  }, [isDark, label, height]);
  useEffect(() => {
    const view = editor.current;
    if (view && view.state.doc.toString() !== text) {
      const isFirst = view.state.doc.length === 0;
      view.dispatch({ changes: smallest(view.state.doc.toString(), text), annotations: [given.of(true), Transaction.addToHistory.of(!isFirst)] });
    }
  }, [text, label, height]);
  useEffect(() => {
    const view = editor.current;
    if (!view) return;
    const marks: Diagnostic[] = problems.map((problem) => {
      const line = view.state.doc.line(Math.min(view.state.doc.lines, Math.max(1, problem.line ?? 1)));
      return { from: line.from, to: line.to, severity: "error", message: `${problem.path} ${problem.message}` };
    });
    view.dispatch(setDiagnostics(view.state, marks));
  }, [problems, label, height]);
  return <div ref={box} data-testid={testId} style={{ border: "1px solid rgba(128,128,128,0.3)", borderRadius: 6, overflow: "hidden" }} />;
}

/** What lies between the beginnings and the ends that both texts share: the cursor stays where it is. */
function smallest(before: string, after: string): { from: number; to: number; insert: string } {
  const most = Math.min(before.length, after.length);
  let from = 0;
  while (from < most && before[from] === after[from]) from += 1;
  let same = 0;
  while (same < most - from && before[before.length - 1 - same] === after[after.length - 1 - same]) same += 1;
  return { from, to: before.length - same, insert: after.slice(from, after.length - same) };
}
