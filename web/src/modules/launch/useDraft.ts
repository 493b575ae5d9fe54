import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useLocation, useNavigate, useSearchParams } from "react-router";
import { api, take, type Schemas } from "../../api/client";
import type { Edit } from "../../ui/schema";
import { edited, read, recipeOf, withRecipe, type Reading } from "./document";

const CHECK_AFTER_MS = 300;
const DRAFT = "finery.draft";
const FIRST = "tiny_grpo";

export type Verdict = Schemas["CheckView"];

export interface Draft {
  text: string;
  /** Of the text, or of the last one that could be read. */
  reading: Reading;
  recipe: string | null;
  verdict: Verdict | undefined;
  /** The verdict is about the text as it is now. */
  isChecked: boolean;
  error: Error | null;
  write: (text: string) => void;
  edit: (edits: Edit[]) => void;
  load: (name: string) => void;
  /** Bring back what loading a recipe has replaced; null when there is nothing to bring back. */
  undo: (() => void) | null;
  recheck: () => void;
}

/** The job file that is being written. It outlives a reload; the address names the recipe that it started from. */
export function useDraft(): Draft {
  const handedOver = (useLocation().state as { text?: string } | null)?.text;
  const navigate = useNavigate();
  const queries = useQueryClient();
  const [view, setView] = useSearchParams();
  const asked = view.get("recipe");
  const [text, setText] = useState(() => handedOver ?? window.localStorage.getItem(DRAFT) ?? "");
  const [replaced, setReplaced] = useState<string | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const reading = useReading(text);
  const recipe = recipeOf(reading.values);
  const [loading, setLoading] = useState<string | null>(() => {
    if (handedOver) return null;
    if (asked !== null) return asked === recipe ? null : asked;
    return text.trim() === "" ? FIRST : null;
  });

  useEffect(() => {
    if (handedOver) void navigate({ search: window.location.search }, { replace: true, state: null });
  }, [handedOver, navigate]);
  useEffect(() => {
    if (loading === null) return;
    let isWanted = true;
    const fetched = queries.fetchQuery({ queryKey: ["recipe", loading], queryFn: () => take(api.GET("/api/recipes/{name}", { params: { path: { name: loading } } })) });
    const settle = (problem: Error | null) => {
      setError(problem);
      setLoading(null);
    };
    fetched.then(
      (found) => {
        if (!isWanted) return;
        setText((before) => {
          setReplaced(before.trim() === "" ? null : before);
          return withRecipe(found.text, found.name);
        });
        settle(null);
      },
      (problem: Error) => isWanted && settle(problem),
    );
    return () => {
      isWanted = false;
    };
  }, [loading, queries]);
  useEffect(() => {
    if (loading !== null || recipe === asked) return;
    setView(
      (before) => {
        if (recipe === null) before.delete("recipe");
        else before.set("recipe", recipe);
        return before;
      },
      { replace: true },
    );
  }, [loading, recipe, asked, setView]);

  const { verdict, isChecked, checkError, recheck } = useVerdict(text);
  const change = useCallback((next: (before: string) => string) => {
    setLoading(null); // what is written while a recipe is on its way stays
    setReplaced(null);
    setText(next);
  }, []);
  const write = useCallback((next: string) => change(() => next), [change]);
  const edit = useCallback((edits: Edit[]) => change((before) => edited(before, edits)), [change]);
  const undo = useMemo(() => (replaced === null ? null : () => write(replaced)), [replaced, write]);
  return { text, reading, recipe, verdict, isChecked, error: error ?? checkError, write, edit, load: setLoading, undo, recheck };
}

/** The values of a text; while it cannot be read, those of the last one that could. */
function useReading(text: string): Reading {
  const last = useRef<Reading["values"]>({});
  const found = useMemo(() => read(text), [text]);
  const shown = found.error === null ? found.values : last.current;
  useEffect(() => {
    last.current = shown;
  }, [shown]);
  return useMemo(() => ({ values: shown, error: found.error }), [shown, found.error]);
}

/** What the server says of a text that has stood for a moment. */
function useVerdict(text: string): { verdict: Verdict | undefined; isChecked: boolean; checkError: Error | null; recheck: () => void } {
  const [settled, setSettled] = useState(text);
  useEffect(() => {
    window.localStorage.setItem(DRAFT, text);
    const timer = window.setTimeout(() => setSettled(text), CHECK_AFTER_MS);
    return () => window.clearTimeout(timer);
  }, [text]);
  const found = useQuery({
    queryKey: ["check", settled],
    queryFn: () => take(api.POST("/api/jobs/check", { body: { text: settled } })),
    placeholderData: (before) => before,
  });
  return { verdict: found.data, isChecked: settled === text && !found.isPlaceholderData, checkError: found.error, recheck: () => void found.refetch() };
}
