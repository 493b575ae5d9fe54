import { Button, Segmented } from "antd";
import { useMemo, useState, type CSSProperties, type MouseEvent } from "react";
import { number, whole } from "../../app/format";
import { useT } from "../../app/i18n";
import type { Colouring, Rollout } from "./rolloutView";
import { coloursOf, known, type Colours } from "./tokens";

/** Tokens, or characters without them, beyond which a text is folded. */
const FOLDED = { tokens: 600, characters: 2400 };

/** A completion token by token, coloured by what the policy knew where it drew each. */
export function TokenText({ rollout, colouring, setColouring }: { rollout: Rollout; colouring: Colouring; setColouring: (colouring: Colouring) => void }) {
  const t = useT();
  const [pointed, setPointed] = useState<number | null>(null);
  const [isOpen, setOpen] = useState(false);
  const settings = known(rollout);
  const shown = settings.includes(colouring) ? colouring : "none";
  const colours = useMemo(() => coloursOf(rollout, shown), [rollout, shown]);
  const pieces = rollout.tokens ?? [rollout.completion];
  const isLong = rollout.tokens ? pieces.length > FOLDED.tokens : rollout.completion.length > FOLDED.characters;
  const isFolded = isLong && !isOpen;
  const spans = useMemo(() => {
    const kept = rollout.tokens ? pieces.slice(0, isFolded ? FOLDED.tokens : undefined) : [isFolded ? rollout.completion.slice(0, FOLDED.characters) : rollout.completion];
    return kept.map((piece, at) => <Token key={at} at={at} text={piece} colours={colours} />);
    // eslint-disable-next-line react-hooks/exhaustive-deps -- pieces follow from the rollout
  }, [rollout, colours, isFolded]);
  const point = (event: MouseEvent) => {
    const at = (event.target as HTMLElement).dataset["at"];
    setPointed(at === undefined ? null : Number(at));
  };
  return (
    <div className="rollout-completion">
      <div className="chart-title">
        <b>{t("samples.completion")}</b>
        {settings.length > 0 ? (
          <Segmented size="small" aria-label={t("rollouts.colour")} value={shown} onChange={setColouring} options={settings.map((value) => ({ value, label: <span data-testid={`rollout-colour-${value}`}>{t(`rollouts.colour.${value}`)}</span> }))} />
        ) : (
          <span className="quiet">{t("rollouts.noTokens")}</span>
        )}
      </div>
      <div className="rollout-readout quiet" role="status" data-testid="rollout-readout">
        {pointed !== null && rollout.tokens ? <Readout rollout={rollout} at={pointed} /> : colours && shown !== "none" ? <Legend colours={colours} colouring={shown} /> : settings.length > 0 && t("rollouts.hover")}
      </div>
      <div className="rollout-tokens text mono" onMouseOver={rollout.tokens ? point : undefined} onMouseLeave={() => setPointed(null)} data-testid="rollout-tokens" data-colour={shown}>
        {spans}
        {isFolded && " …"}
      </div>
      {isLong && (
        <Button type="link" size="small" onClick={() => setOpen(!isOpen)} data-testid="rollout-unfold">
          {isOpen ? t("rollouts.less") : rollout.tokens ? t("rollouts.allTokens", { n: whole(pieces.length) }) : t("rollouts.all")}
        </Button>
      )}
    </div>
  );
}

function Token({ at, text, colours }: { at: number; text: string; colours: Colours | null }) {
  const strength = colours?.strengths[at] ?? null;
  const style = strength === null || strength === 0 ? undefined : ({ "--strength": Math.abs(strength).toFixed(3) } as CSSProperties);
  return <span className="token" data-at={at} data-sign={strength !== null && strength < 0 ? "below" : undefined} style={style}>{text}</span>;
}

function Readout({ rollout, at }: { rollout: Rollout; at: number }) {
  const t = useT();
  const values = (["entropy", "kl", "logprob", "advantages"] as const).filter((name) => rollout[name] !== null);
  return (
    <>
      <b className="mono">{JSON.stringify(rollout.tokens?.[at] ?? "")}</b> · {t("rollouts.token", { n: whole(at + 1) })}
      {values.map((name) => <span key={name}> · {t(`rollouts.colour.${name}`)} {number(rollout[name]?.[at])}</span>)}
    </>
  );
}

function Legend({ colours, colouring }: { colours: Colours; colouring: Exclude<Colouring, "none"> }) {
  const t = useT();
  const sign = colouring === "logprob" ? "−" : "";
  const end = `${colours.isClipped ? "≥ " : ""}${sign}${number(colours.end, 3)}`;
  return (
    <>
      {colours.isSigned ? `−${number(colours.end, 3)}` : "0"} <i className="rollout-scale" data-signed={colours.isSigned} aria-hidden /> {end} {!colours.isSigned && t("rollouts.nats")} · {t(`rollouts.about.${colouring}`)}
    </>
  );
}
