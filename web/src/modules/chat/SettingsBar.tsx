import { Input, InputNumber } from "antd";
import { useT } from "../../app/i18n";
import type { Sampling, Settings } from "./talk";

const FIELDS = [
  { name: "temperature", min: 0, max: 10, step: 0.1, width: 76 },
  { name: "top_p", min: 0.01, max: 1, step: 0.05, width: 76 },
  { name: "top_k", min: 0, max: 1_000_000, step: 1, width: 84 },
  { name: "max_new_tokens", min: 1, max: 1_000_000, step: 64, width: 92 },
  { name: "seed", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, width: 96 },
] as const;

interface Props {
  settings: Settings;
  defaults: Sampling | undefined;
  change: (settings: Settings) => void;
}

/** What the model is told first, and how answers are drawn. An empty field is the default. */
export function SettingsBar({ settings, defaults, change }: Props) {
  const t = useT();
  return (
    <div className="chat-settings">
      <label className="chat-system">
        {t("chat.system")}
        <Input.TextArea
          autoSize={{ minRows: 1, maxRows: 4 }}
          placeholder={t("chat.systemHint")}
          value={settings.system}
          onChange={(event) => change({ ...settings, system: event.target.value })}
          data-testid="system"
        />
      </label>
      {FIELDS.map(({ name, width, ...limits }) => (
        <label key={name} title={t(`chat.${name}.why`)}>
          {t(`chat.${name}`)}
          <InputNumber
            {...limits}
            controls={false}
            aria-label={t(`chat.${name}`)}
            style={{ width }}
            value={settings.sampling[name] ?? null}
            placeholder={String(defaults?.[name] ?? t("chat.random"))}
            onChange={(value: number | null) => change({ ...settings, sampling: changed(settings.sampling, name, value) })}
            data-testid={`set-${name}`}
          />
        </label>
      ))}
    </div>
  );
}

function changed(sampling: Sampling, name: keyof Sampling, value: number | null): Sampling {
  const after = { ...sampling, [name]: value };
  return Object.fromEntries(Object.entries(after).filter(([, given]) => given !== null));
}
