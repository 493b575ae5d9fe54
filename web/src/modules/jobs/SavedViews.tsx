import { DeleteOutlined } from "@ant-design/icons";
import { Button, Input, Popover, Space } from "antd";
import { useState } from "react";
import { Link } from "react-router";
import { useT } from "../../app/i18n";

const STORE = "finery.views";
type Views = Record<string, string>;

function load(): Views {
  try {
    return JSON.parse(window.localStorage.getItem(STORE) ?? "{}") as Views;
  } catch {
    return {};
  }
}

/** Tables under a name. What is saved is the address, so a view can be sent as a link as well. */
export function SavedViews({ address }: { address: string }) {
  const t = useT();
  const [views, setViews] = useState(load);
  const [name, setName] = useState("");
  const keep = (next: Views) => {
    setViews(next);
    window.localStorage.setItem(STORE, JSON.stringify(next));
  };
  const save = () => {
    if (name.trim()) keep({ ...views, [name.trim()]: address });
    setName("");
  };
  return (
    <Popover
      trigger="click"
      placement="bottom"
      content={
        <div className="stack">
          {Object.entries(views).map(([saved, at]) => (
            <Space key={saved} className="saved-view">
              <Link to={`/runs?${at}`}>{saved}</Link>
              <Button size="small" type="text" icon={<DeleteOutlined />} aria-label={t("views.remove", { name: saved })} onClick={() => keep(Object.fromEntries(Object.entries(views).filter(([other]) => other !== saved)))} />
            </Space>
          ))}
          <Space.Compact>
            <Input aria-label={t("views.name")} placeholder={t("views.name")} data-testid="view-name" value={name} onChange={(event) => setName(event.target.value)} onPressEnter={save} />
            <Button onClick={save} disabled={!name.trim()} data-testid="view-save">{t("views.save")}</Button>
          </Space.Compact>
        </div>
      }
    >
      <Button data-testid="views">{t("views.title")}</Button>
    </Popover>
  );
}
