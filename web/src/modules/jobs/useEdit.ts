/** Changes what people write on runs, and offers to undo it. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button } from "antd";
import { createElement } from "react";
import { api, take, type JobDetail, type Schemas } from "../../api/client";
import { renew } from "../../api/renew";
import { useT } from "../../app/i18n";

export type Edit = Omit<Schemas["JobsEdit"], "ids">;

interface Wish {
  ids: number[];
  edit: Edit;
  /** What takes it back, and what to say; none for what is seen at once. */
  undo?: { edit: Edit; text: string };
}

const UNDO_SECONDS = 10;

export function useEdit() {
  const t = useT();
  const queries = useQueryClient();
  const { notification } = App.useApp();
  return useMutation({
    mutationFn: ({ ids, edit }: Wish) => take(api.PATCH("/api/jobs", { body: { ids, ...edit } })),
    onSuccess: ({ jobs }, { ids, undo }) => {
      for (const job of jobs) queries.setQueryData<JobDetail>(["job", job.id], (before) => (before ? { ...before, ...job } : before));
      void renew(queries, ["jobs"]);
      if (!undo) return;
      const key = `undo-${ids.join("-")}`;
      const takeBack = () => {
        notification.destroy(key);
        void take(api.PATCH("/api/jobs", { body: { ids, ...undo.edit } })).then(() => renew(queries, ["jobs"]));
      };
      const button = createElement(Button, { size: "small", onClick: takeBack }, t("edit.undo"));
      notification.success({ key, title: undo.text, actions: button, duration: UNDO_SECONDS, placement: "bottomRight" });
    },
    onError: (error) => notification.error({ title: t("error.title"), description: error.message || t("error.unreachable") }),
  });
}
