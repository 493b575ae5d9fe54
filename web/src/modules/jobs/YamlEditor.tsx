import { yaml } from "@codemirror/lang-yaml";
import { lintGutter, setDiagnostics, type Diagnostic } from "@codemirror/lint";
import { Compartment, EditorState } from "@codemirror/state";
import { oneDark } from "@codemirror/theme-one-dark";
import { basicSetup, EditorView } from "codemirror";
import { useEffect, useRef } from "react";
import type { Schemas } from "../../api/client";
import { useDark } from "../../app/theme";

interface Props {
  text: string;
  change: (text: string) => void;
  problems: Schemas["ProblemView"][];
  label: string;
}

/** A YAML editor that marks problems at their lines. */
export function YamlEditor({ text, change, problems, label }: Props) {
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
          EditorView.contentAttributes.of({ "aria-label": label }),
          EditorView.theme({ "&": { height: "58vh", fontSize: "13px" }, ".cm-scroller": { overflow: "auto" } }),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) changed.current(update.state.doc.toString());
          }),
        ],
      }),
    });
    editor.current = made;
    return () => made.destroy();
  }, [label]);
  useEffect(() => {
    editor.current?.dispatch({ effects: colours.current.reconfigure(isDark ? oneDark : []) });
  }, [isDark, label]);
  useEffect(() => {
    const view = editor.current;
    if (view && view.state.doc.toString() !== text) {
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
    }
  }, [text, label]);
  useEffect(() => {
    const view = editor.current;
    if (!view) return;
    const marks: Diagnostic[] = problems.map((problem) => {
      const line = view.state.doc.line(Math.min(view.state.doc.lines, Math.max(1, problem.line ?? 1)));
      return { from: line.from, to: line.to, severity: "error", message: `${problem.path} ${problem.message}` };
    });
    view.dispatch(setDiagnostics(view.state, marks));
  }, [problems, label]);
  return <div ref={box} data-testid="launch-editor" style={{ border: "1px solid rgba(128,128,128,0.3)", borderRadius: 6, overflow: "hidden" }} />;
}
