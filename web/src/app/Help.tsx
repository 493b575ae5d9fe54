import { Modal } from "antd";
import { useT, type Key } from "./i18n";

const KEYS: [string[], Key][] = [
  [["Ctrl", "K"], "help.palette"],
  [["/"], "help.search"],
  [["j", "k"], "help.move"],
  [["g", "o"], "help.home"],
  [["g", "r"], "help.runs"],
  [["g", "l"], "help.launch"],
  [["g", "d"], "help.datasets"],
  [["g", "e"], "help.evaluate"],
  [["g", "p"], "help.planner"],
  [["g", "c"], "help.chat"],
  [["g", "s"], "help.settings"],
  [["Esc"], "help.escape"],
  [["?"], "help.help"],
];

/** The keys that work anywhere. */
export function Help({ isOpen, close }: { isOpen: boolean; close: () => void }) {
  const t = useT();
  return (
    <Modal open={isOpen} onCancel={close} footer={null} title={t("help.title")} width={420}>
      {KEYS.map(([keys, meaning]) => (
        <p key={meaning} className="key-line">
          <span>{keys.map((key) => <kbd key={key}>{key}</kbd>)}</span> {t(meaning)}
        </p>
      ))}
    </Modal>
  );
}
