import { AutoComplete, Form, InputNumber, Modal } from "antd";
import { useState } from "react";
import { useT } from "../../app/i18n";

interface Props {
  isOpen: boolean;
  close: () => void;
  apply: (values: Record<string, number>) => void;
}

const OFTEN_SET = ["learning_rate", "kl_coef", "entropy_coef", "temperature"];

/** Changes a live setting. Whether the engine takes it is answered by the run, between two steps. */
export function SetDialog({ isOpen, close, apply }: Props) {
  const t = useT();
  const [name, setName] = useState(OFTEN_SET[0] ?? "");
  const [value, setValue] = useState<number | null>(null);
  const submit = () => {
    if (value !== null && name) apply({ [name]: value });
    close();
  };
  return (
    <Modal open={isOpen} onCancel={close} onOk={submit} okText={t("set.apply")} cancelText={t("set.cancel")} okButtonProps={{ disabled: value === null || !name }} title={t("verb.set")} width={440}>
      <Form layout="vertical">
        <Form.Item label={t("set.name")}>
          <AutoComplete value={name} onChange={setName} options={OFTEN_SET.map((option) => ({ value: option }))} />
        </Form.Item>
        <Form.Item label={t("set.value")}>
          <InputNumber<number> value={value} onChange={setValue} min={0} style={{ width: "100%" }} />
        </Form.Item>
      </Form>
    </Modal>
  );
}
