import { Button, Input, Segmented, Upload } from "antd";
import { useState } from "react";
import { useT } from "../../app/i18n";
import { NumberRow, Row } from "./Fields";
import { NameSelect } from "./NameSelect";
import { DEFAULT, parsedConfig, type Change, type Plan } from "./plan";
import { useChoices } from "./usePlanner";

const KINDS = ["name", "size", "config"] as const;
type Kind = (typeof KINDS)[number];

const kindOf = (plan: Plan): Kind => (plan.config !== null ? "config" : plan.params !== null ? "size" : "name");

/** The model by its name, by its size, or by its config. */
export function ModelField({ plan, change, parameters }: { plan: Plan; change: Change; parameters: number | undefined }) {
  const t = useT();
  const choices = useChoices();
  const [wanted, want] = useState<Kind | null>(null);
  const kind = wanted ?? kindOf(plan);
  const choose = (next: Kind) => {
    // Until a config is given, what was planned stays.
    want(next === "config" && plan.config === null ? "config" : null);
    if (next === "name" && kindOf(plan) !== "name") change({ model: DEFAULT.model, params: null, config: null });
    if (next === "size" && plan.params === null) change({ model: "", params: parameters ? Number((parameters / 1e9).toPrecision(3)) : 7, config: null });
  };
  return (
    <>
      <Row label={t("planner.model")} isChanged={plan.model !== DEFAULT.model} isWide>
        <Segmented
          size="small"
          block
          aria-label={t("planner.model")}
          data-testid="plan-model-kind"
          value={kind}
          onChange={choose}
          options={KINDS.map((value) => ({ value, label: t(`planner.model.${value}`) }))}
        />
      </Row>
      {kind === "name" && (
        <NameSelect label={t("planner.model")} testId="plan-model" value={plan.model} names={choices.data?.models ?? []} isLoading={choices.isLoading} choose={(model) => change({ model, params: null, config: null })} />
      )}
      {kind === "size" && <NumberRow plan={plan} change={change} name="params" min={0.001} max={9999} step={1} isWhole={false} unit="B" />}
      {kind === "config" && <ConfigField plan={plan} change={change} done={() => want(null)} />}
    </>
  );
}

function ConfigField({ plan, change, done }: { plan: Plan; change: Change; done: () => void }) {
  const t = useT();
  const [text, setText] = useState(() => (plan.config === null ? "" : JSON.stringify(plan.config, null, 1)));
  const isWrong = text.trim() !== "" && parsedConfig(text) === undefined;
  const write = (next: string) => {
    setText(next);
    const config = parsedConfig(next);
    if (config === undefined) return;
    change({ model: "", params: null, config });
    done();
  };
  return (
    <div className="plan-config">
      <Input.TextArea aria-label="config.json" data-testid="plan-config" value={text} onChange={(event) => write(event.target.value)} rows={5} placeholder={t("planner.config.hint")} status={isWrong ? "error" : undefined} spellCheck={false} />
      <div className="plan-config-line">
        <Upload
          accept=".json,application/json"
          showUploadList={false}
          beforeUpload={(file) => {
            void file.text().then(write);
            return false;
          }}
        >
          <Button size="small">{t("planner.config.upload")}</Button>
        </Upload>
        {isWrong && <span className="schema-problem" role="alert">{t("planner.config.wrong")}</span>}
      </div>
    </div>
  );
}
