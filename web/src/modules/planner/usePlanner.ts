import { useQuery } from "@tanstack/react-query";
import { useCallback, useEffect, useRef, useState } from "react";
import { useSearchParams } from "react-router";
import { api, take } from "../../api/client";
import { asRequest, decode, decodeKept, encode, type Change, type Plan, type PlanView } from "./plan";

const SETTLE_MS = 150;

export interface Planner {
  plan: Plan;
  change: Change;
  /** The plan as it was when typing last paused: what is asked of the server. */
  settled: Plan;
  /** The plan that is kept to compare with. */
  kept: Plan | null;
  keep: (plan: Plan | null) => void;
  replace: (plan: Plan, kept: Plan | null) => void;
}

interface State {
  plan: Plan;
  kept: Plan | null;
}

const read = (address: URLSearchParams): State => ({ plan: decode(address), kept: decodeKept(address) });
const textOf = ({ plan, kept }: State) => encode(plan, kept);

/** The plan that is being made. It lives in the address, which follows a moment after each change. */
export function usePlanner(): Planner {
  const [address, setAddress] = useSearchParams();
  const [state, setState] = useState(() => read(address));
  const [settled, setSettled] = useState(state);
  const written = useRef(window.location.search);
  const newest = useRef(setAddress);
  useEffect(() => {
    newest.current = setAddress;
  }, [setAddress]);
  useEffect(() => {
    // What was drawn last may be behind what was written last; only another address than that is somebody else's.
    if (window.location.search === written.current || window.location.pathname !== "/planner") return;
    written.current = window.location.search;
    const found = read(new URLSearchParams(window.location.search));
    setState(found);
    setSettled(found);
  }, [address]);
  useEffect(() => {
    const timer = window.setTimeout(() => {
      setSettled(state);
      const text = textOf(state);
      const search = text === "" ? "" : `?${text}`;
      if (search === written.current) return;
      written.current = search;
      newest.current(text, { replace: true });
    }, SETTLE_MS);
    return () => window.clearTimeout(timer);
  }, [state]);
  const change = useCallback<Change>((changes) => setState((before) => ({ ...before, plan: { ...before.plan, ...changes } })), []);
  const keep = useCallback((kept: Plan | null) => setState((before) => ({ ...before, kept })), []);
  const replace = useCallback((plan: Plan, kept: Plan | null) => setState({ plan, kept }), []);
  return { plan: state.plan, change, settled: settled.plan, kept: state.kept, keep, replace };
}

export interface Answer {
  /** Of this plan, or of the last one that had an answer. */
  view: PlanView | undefined;
  /** Not of this plan: it is on its way, or impossible. */
  isOld: boolean;
  error: Error | null;
  isFetching: boolean;
}

/** What the server says of a plan. */
export function useAnswer(plan: Plan | null): Answer {
  const request = plan === null ? null : asRequest(plan);
  const found = useQuery({
    queryKey: ["plan", request],
    enabled: request !== null,
    queryFn: ({ signal }) => take(api.POST("/api/plan", { body: request ?? {}, signal })),
    placeholderData: (before) => before,
    staleTime: Infinity,
    refetchOnWindowFocus: false,
  });
  const last = useRef<PlanView | undefined>(undefined);
  const view = found.data ?? last.current;
  useEffect(() => {
    if (view) last.current = view;
  }, [view]);
  return { view: request === null ? undefined : view, isOld: found.isPlaceholderData || found.error !== null, error: found.error, isFetching: found.isFetching };
}

/** Names of models and devices that are known. */
export function useChoices() {
  return useQuery({ queryKey: ["plan-choices"], queryFn: () => take(api.GET("/api/plan/choices")), staleTime: Infinity });
}
