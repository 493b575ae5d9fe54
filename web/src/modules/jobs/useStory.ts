/** What happened while one looks: answers to wishes, alerts, and things that make the page's facts out of date. */
import { useQueryClient } from "@tanstack/react-query";
import { App } from "antd";
import { useCallback, useEffect, useRef } from "react";
import type { Streamed } from "../../api/client";
import { useT, type Translate } from "../../app/i18n";

type Event = Streamed["event"];

interface Note {
  kind: "success" | "info" | "warning" | "error";
  title: string;
  text: string;
}

const OUTDATES_JOB: readonly Event["type"][] = ["checkpoint", "status", "controls", "control_ack"];
const OUTDATES_STORY: readonly Event["type"][] = ["alert", "action", "control_ack", "status"];
const ASK_AGAIN_MS = 250;

export function useStory(jobId: number): (event: Event) => void {
  const t = useT();
  const askAgain = useAskAgain(jobId);
  const { notification } = App.useApp();
  return useCallback(
    (event: Event) => {
      const note = noteOf(event, t);
      if (note) notification[note.kind]({ title: note.title, description: note.text, placement: "bottomRight" });
      if (OUTDATES_JOB.includes(event.type)) askAgain("facts");
      if (OUTDATES_STORY.includes(event.type)) askAgain("story");
    },
    [askAgain, notification, t],
  );
}

/** Asks again for what is out of date, soon and once, however many events there are. */
function useAskAgain(jobId: number): (what: "facts" | "story") => void {
  const queries = useQueryClient();
  const timers = useRef(new Map<string, number>());
  useEffect(() => {
    const waiting = timers.current;
    return () => waiting.forEach((timer) => window.clearTimeout(timer));
  }, []);
  return useCallback(
    (what) => {
      if (timers.current.has(what)) return;
      const ask = () => {
        timers.current.delete(what);
        if (what === "facts") void queries.invalidateQueries({ queryKey: ["job", jobId], exact: true });
        else for (const part of ["story", "rules"]) void queries.invalidateQueries({ queryKey: ["job", jobId, part] });
      };
      timers.current.set(what, window.setTimeout(ask, ASK_AGAIN_MS));
    },
    [queries, jobId],
  );
}

/** What to tell about an event; null for what is seen elsewhere. */
export function noteOf(event: Event, t: Translate): Note | null {
  if (event.type === "control_ack") {
    if (event.outcome === "applied" && !["set", "checkpoint"].includes(event.command)) return null;
    const verb = event.command === "set" ? t("verb.set") : event.command === "checkpoint" ? t("verb.checkpoint") : event.command;
    const step = event.step ?? "?";
    return event.outcome === "applied"
      ? { kind: "success", title: t("story.applied", { verb, step }), text: event.message }
      : { kind: "warning", title: t("story.rejected", { verb, step }), text: event.message };
  }
  if (event.type === "alert") return { kind: event.severity, title: event.rule, text: event.message };
  return null;
}
