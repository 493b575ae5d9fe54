import { useQuery } from "@tanstack/react-query";
import { Skeleton, Typography } from "antd";
import { api, take } from "../../api/client";
import { useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";
import { command, overrides, type Override } from "./command";
import type { Draft } from "./useDraft";

/** What one types for the same job, with the file and against the recipe. */
export function CommandTab({ draft }: { draft: Draft }) {
  const t = useT();
  const spec = draft.verdict?.spec;
  const name = draft.recipe;
  const recipe = useQuery({
    queryKey: ["recipe-spec", name],
    enabled: name !== null,
    queryFn: async () => {
      const { text } = await take(api.GET("/api/recipes/{name}", { params: { path: { name: name ?? "" } } }));
      return (await take(api.POST("/api/jobs/check", { body: { text } }))).spec;
    },
  });
  if (!spec) return <p className="quiet">{t("launch.invalidFirst")}</p>;
  const isPipeline = spec.kind === "pipeline";
  return (
    <div className="stack">
      <div>
        <p className="launch-note">{t("launch.command.file")}</p>
        <Commands found={[]} isPipeline={isPipeline} />
      </div>
      {name !== null && (
        <div>
          <p className="launch-note">{t("launch.command.recipe", { name })}</p>
          {recipe.isLoading && <Skeleton active paragraph={{ rows: 2 }} />}
          {recipe.error && <ErrorCard error={recipe.error} />}
          {recipe.data && (
            <>
              <Command text={`finery recipes show ${name} > job.yaml`} />
              <Commands found={overrides(recipe.data, spec)} isPipeline={isPipeline} />
            </>
          )}
        </div>
      )}
    </div>
  );
}

function Commands({ found, isPipeline }: { found: Override[]; isPipeline: boolean }) {
  const t = useT();
  return (
    <>
      {!isPipeline && <Command text={command("finery run job.yaml", found)} note={t("launch.command.run")} />}
      <Command text={command("finery jobs submit job.yaml", found)} note={t("launch.command.submit")} />
    </>
  );
}

function Command({ text, note }: { text: string; note?: string }) {
  return (
    <div className="launch-command">
      <pre data-testid="launch-command">{text}</pre>
      <Typography.Text copyable={{ text }} />
      {note && <span className="quiet">{note}</span>}
    </div>
  );
}
