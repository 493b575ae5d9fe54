/** What happened while one looks: answers to wishes, alerts, and things that make the page's facts out of date. */
import { useQueryClient } from "@tanstack/react-query";
import { App } from "antd";
import { useCallback } from "react";
import type { Streamed } from "../../api/client";
import { useT, type Translate } from "../../app/i18n";

type Event = Streamed["event"];

interface Note {
  kind: "success" | "info" | "warning" | "error";
  title: string;
  text: string;
}

export function useStory(jobId: number): (event: Event) => void {
  const t = useT();
  const queries = useQueryClient();
  const { notification } = App.useApp();
  return useCallback(
    (event: Event) => {
      const note = noteOf(event, t);
      if (note) notification[note.kind]({ title: note.title, description: note.text, placement: "bottomRight" });
      if (event.type === "checkpoint" || event.type === "status") void queries.invalidateQueries({ queryKey: ["job", jobId], exact: true });
    },
    [queries, notification, jobId, t],
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
