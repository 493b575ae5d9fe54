import { useMutation } from "@tanstack/react-query";
import { Button, Space, Tabs } from "antd";
import { useNavigate, useSearchParams } from "react-router";
import { api, take, type Schemas } from "../../api/client";
import { yaml } from "../../app/format";
import { useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";
import { YamlEditor } from "../../ui/YamlEditor";
import { CommandTab } from "./CommandTab";
import { DataTab } from "./DataTab";
import { DryRunTab } from "./DryRunTab";
import { LaunchForm } from "./LaunchForm";
import { Problems } from "./Problems";
import { RecipeSelect } from "./RecipeSelect";
import { SaveRecipe } from "./SaveRecipe";
import { useDraft, type Draft } from "./useDraft";

const TABS = ["yaml", "resolved", "command", "data", "dry-run"] as const;

/** Write a job file, as a form and as text at once; see what is wrong where, what it stands for and what it would do; submit it. */
export default function LaunchPage() {
  const t = useT();
  const navigate = useNavigate();
  const draft = useDraft();
  const submit = useMutation({
    mutationFn: async (spec: Record<string, unknown>) => {
      if (spec.kind === "pipeline") {
        const made = await take(api.POST("/api/pipelines", { body: { spec: spec as Schemas["PipelineSpec"] } }));
        return made.jobs[0]?.id;
      }
      return (await take(api.POST("/api/jobs", { body: { spec: spec as Schemas["SubmitSpec"]["spec"] } }))).id;
    },
    onSuccess: (id) => void navigate(id === undefined ? "/runs" : `/runs/${id}`),
  });
  const isReady = draft.isChecked && draft.verdict?.is_valid === true;
  return (
    <div className="page">
      <div className="page-title">
        <h1>{t("launch.title")}</h1>
        <Space wrap>
          {draft.undo && <Button type="text" onClick={draft.undo} data-testid="launch-undo">{t("launch.undo")}</Button>}
          <RecipeSelect value={draft.recipe} choose={draft.load} />
          <Button disabled={draft.recipe === null} onClick={() => draft.recipe && draft.load(draft.recipe)} data-testid="launch-reset">{t("launch.reset")}</Button>
          <SaveRecipe draft={draft} isReady={isReady} />
          <Button type="primary" data-testid="launch-submit" disabled={!isReady} loading={submit.isPending} onClick={() => draft.verdict?.spec && submit.mutate(draft.verdict.spec)}>
            {t("launch.submit")}
          </Button>
        </Space>
      </div>
      {submit.error && <div style={{ marginBottom: 12 }}><ErrorCard error={submit.error} /></div>}
      <div className="launch">
        <div className="launch-form"><LaunchForm draft={draft} /></div>
        <Side draft={draft} />
      </div>
    </div>
  );
}

function Side({ draft }: { draft: Draft }) {
  const t = useT();
  const [view, setView] = useSearchParams();
  const tab = TABS.find((name) => name === view.get("tab")) ?? "yaml";
  const choose = (name: string) =>
    setView(
      (before) => {
        if (name === "yaml") before.delete("tab");
        else before.set("tab", name);
        return before;
      },
      { replace: true },
    );
  const spec = draft.verdict?.spec;
  return (
    <div className="launch-side">
      <Problems draft={draft} />
      <Tabs
        size="small"
        activeKey={tab}
        onChange={choose}
        items={[
          { key: "yaml", label: label("yaml", t("launch.tab.yaml")), children: <YamlEditor text={draft.text} change={draft.write} problems={draft.verdict?.problems ?? []} label={t("launch.title")} height="calc(100vh - 250px)" testId="launch-editor" /> },
          { key: "resolved", label: label("resolved", t("launch.tab.resolved")), children: spec ? <pre className="log launch-well" data-testid="launch-resolved">{yaml(spec).trim()}</pre> : <p className="quiet">{t("launch.invalidFirst")}</p> },
          { key: "command", label: label("command", t("launch.tab.command")), children: <CommandTab draft={draft} /> },
          { key: "data", label: label("data", t("launch.tab.data")), children: <DataTab values={draft.reading.values} /> },
          { key: "dry-run", label: label("dry-run", t("launch.tab.dryRun")), children: <DryRunTab text={draft.text} /> },
        ]}
      />
    </div>
  );
}

function label(name: string, text: string) {
  return <span data-testid={`launch-tab-${name}`}>{text}</span>;
}
