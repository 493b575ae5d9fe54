import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button, Input, Modal } from "antd";
import { useState } from "react";
import { api, take } from "../../api/client";
import { renew } from "../../api/renew";
import { useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";
import { withRecipe } from "./document";
import { useRecipes } from "./RecipeSelect";
import type { Draft } from "./useDraft";

/** Keeps the draft as a recipe of the user's own. */
export function SaveRecipe({ draft, isReady }: { draft: Draft; isReady: boolean }) {
  const t = useT();
  const [isOpen, setOpen] = useState(false);
  return (
    <>
      <Button disabled={!isReady} onClick={() => setOpen(true)} data-testid="launch-save">{t("launch.save")}</Button>
      {isOpen && <Dialog draft={draft} close={() => setOpen(false)} />}
    </>
  );
}

function Dialog({ draft, close }: { draft: Draft; close: () => void }) {
  const t = useT();
  const { message } = App.useApp();
  const queries = useQueryClient();
  const recipes = useRecipes();
  const [name, setName] = useState(suggested(draft.reading.values.name));
  const same = recipes.data?.recipes.find((recipe) => recipe.name === name);
  const save = useMutation({
    mutationFn: () => take(api.PUT("/api/recipes/{name}", { params: { path: { name } }, body: { text: withRecipe(draft.text, null) } })),
    onSuccess: async (saved) => {
      await renew(queries, ["recipes"], ["recipe", name], ["recipe-spec", name]);
      draft.write(withRecipe(draft.text, saved.name));
      void message.success(t("launch.saved", { name: saved.name }));
      close();
    },
  });
  return (
    <Modal
      open
      title={t("launch.save")}
      onCancel={close}
      onOk={() => save.mutate()}
      okText={same?.is_own ? t("launch.replace") : t("launch.keep")}
      okButtonProps={{ disabled: name === "" || same?.is_own === false, loading: save.isPending, "data-testid": "launch-save-ok" }}
    >
      <Input autoFocus value={name} aria-label={t("launch.saveName")} data-testid="launch-save-name" onChange={(event) => setName(event.target.value.trim())} onPressEnter={() => name !== "" && same?.is_own !== false && save.mutate()} />
      <p className="quiet">{same === undefined ? t("launch.saveWhy") : same.is_own ? t("launch.replaces", { name }) : t("launch.taken", { name })}</p>
      {save.error && <ErrorCard error={save.error} />}
    </Modal>
  );
}

/** A job's name as that of a recipe. */
function suggested(name: unknown): string {
  return typeof name === "string" ? name.replace(/[^A-Za-z0-9._-]+/g, "_").slice(0, 64) : "";
}
