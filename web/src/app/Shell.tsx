import { BarChartOutlined, CalculatorOutlined, DatabaseOutlined, HomeOutlined, MessageOutlined, RocketOutlined, SettingOutlined, UnorderedListOutlined } from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { Alert, Layout, Menu, Segmented, Select, Skeleton } from "antd";
import { lazy, Suspense, useEffect, useState } from "react";
import { Link, Navigate, Route, Routes, useLocation, useNavigate } from "react-router";
import { api, ApiError, take } from "../api/client";
import { contact } from "../api/contact";
import { LoginPage } from "../modules/login/LoginPage";
import { ErrorCard } from "../ui/ErrorCard";
import { ErrorBoundary } from "./ErrorBoundary";
import { Help } from "./Help";
import { useKeys } from "./keys";
import type { Language } from "./i18n";
import { useT } from "./i18n";
import { Palette } from "./Palette";
import type { Theme } from "./preferences";
import { part } from "./parts";
import { StaleBanner } from "./StaleBanner";

const HomePage = lazy(() => part(import("../modules/home/HomePage")));
const RunsPage = lazy(() => part(import("../modules/jobs/RunsPage")));
const SharedPage = lazy(() => part(import("../modules/jobs/SharedPage")));
const RunPage = lazy(() => part(import("../modules/jobs/RunPage")));
const ComparePage = lazy(() => part(import("../modules/compare/ComparePage")));
const LaunchPage = lazy(() => part(import("../modules/launch/LaunchPage")));
const DatasetsPage = lazy(() => part(import("../modules/datasets/DatasetsPage")));
const EvaluatePage = lazy(() => part(import("../modules/evaluation/EvaluatePage")));
const PlannerPage = lazy(() => part(import("../modules/planner/PlannerPage")));
const ChatPage = lazy(() => part(import("../modules/chat/ChatPage")));
const SettingsPage = lazy(() => part(import("../modules/settings/SettingsPage")));

interface Props {
  language: Language;
  setLanguage: (value: Language) => void;
  theme: Theme;
  setTheme: (value: Theme) => void;
}

const SECTIONS = [
  { name: "home", path: "/", icon: <HomeOutlined /> },
  { name: "runs", path: "/runs", icon: <UnorderedListOutlined /> },
  { name: "launch", path: "/launch", icon: <RocketOutlined /> },
  { name: "datasets", path: "/datasets", icon: <DatabaseOutlined /> },
  { name: "evaluate", path: "/evaluate", icon: <BarChartOutlined /> },
  { name: "planner", path: "/planner", icon: <CalculatorOutlined /> },
  { name: "chat", path: "/chat", icon: <MessageOutlined /> },
  { name: "settings", path: "/settings", icon: <SettingOutlined /> },
] as const;

export function Shell(props: Props) {
  const t = useT();
  const location = useLocation();
  const navigate = useNavigate();
  const [isHelpOpen, setHelpOpen] = useState(false);
  const [isPaletteOpen, setPaletteOpen] = useState(false);
  useKeys({
    "g o": () => void navigate("/"),
    "g r": () => void navigate("/runs"),
    "g l": () => void navigate("/launch"),
    "g d": () => void navigate("/datasets"),
    "g e": () => void navigate("/evaluate"),
    "g p": () => void navigate("/planner"),
    "g c": () => void navigate("/chat"),
    "g s": () => void navigate("/settings"),
    "?": () => setHelpOpen(true),
    "mod k": () => setPaletteOpen(true),
    "/": focusSearch,
  });
  const isLogin = location.pathname === "/login";
  const isShared = location.pathname.startsWith("/shared/");
  const server = useServer(!isLogin && !isShared);
  const isStranger = server.error instanceof ApiError && server.error.status === 401;
  const section = location.pathname.split("/")[1] || "home";
  const items = SECTIONS.map(({ name, path, icon }) => ({ key: name, icon, label: <Link to={path}>{t(`nav.${name}`)}</Link> }));
  return (
    <Layout className="shell">
      <a className="skip" href="#content">{t("nav.skip")}</a>
      <Layout.Header className="header">
        <Link to="/" className="brand">
          <img src="/favicon.svg" alt="" width={22} height={22} /> Finery
        </Link>
        <Select
          aria-label={t("language.label")}
          value={props.language}
          onChange={props.setLanguage}
          data-testid="language"
          options={[{ value: "en", label: "English" }, { value: "zh", label: "中文" }]}
        />
        <Segmented
          aria-label={t("theme.label")}
          value={props.theme}
          onChange={props.setTheme}
          options={(["light", "dark", "system"] as const).map((value) => ({ value, label: t(`theme.${value}`) }))}
        />
      </Layout.Header>
      <StaleBanner />
      {server.data && !server.data.worker.is_alive && <Alert banner type="warning" title={t("worker.dead")} />}
      <Layout className="body">
        {!isLogin && !isShared && !isStranger && (
          <Layout.Sider className="sider" width={140} collapsedWidth={52} breakpoint="lg" trigger={null}>
            <Menu mode="inline" items={items} selectedKeys={[section]} aria-label={t("nav.label")} />
          </Layout.Sider>
        )}
        <Layout.Content id="content">
          <ErrorBoundary key={location.pathname}>
            <Suspense fallback={<div className="page"><Skeleton active /></div>}>
              {isShared ? (
                <Routes><Route path="/shared/:job" element={<SharedPage />} /></Routes>
              ) : isLogin || isStranger ? (
                <LoginPage />
              ) : server.error && !server.data ? (
                <div className="page">
                  <ErrorCard error={server.error} retry={() => void server.refetch()} />
                </div>
              ) : (
                <Pages />
              )}
            </Suspense>
          </ErrorBoundary>
        </Layout.Content>
      </Layout>
      {!isLogin && !isShared && !isStranger && <Palette isOpen={isPaletteOpen} close={() => setPaletteOpen(false)} />}
      <Help isOpen={isHelpOpen} close={() => setHelpOpen(false)} />
    </Layout>
  );
}

function Pages() {
  return (
    <Routes>
      <Route path="/" element={<HomePage />} />
      <Route path="/runs" element={<RunsPage />} />
      <Route path="/runs/:job" element={<RunPage />} />
      <Route path="/compare" element={<ComparePage />} />
      <Route path="/launch" element={<LaunchPage />} />
      <Route path="/datasets" element={<DatasetsPage />} />
      <Route path="/datasets/:ref" element={<DatasetsPage />} />
      <Route path="/evaluate" element={<EvaluatePage />} />
      <Route path="/planner" element={<PlannerPage />} />
      <Route path="/chat" element={<ChatPage />} />
      <Route path="/settings" element={<SettingsPage />} />
      <Route path="*" element={<Navigate to="/" replace />} />
    </Routes>
  );
}

const POLL_MS = 10_000;
const LOST_POLL_MS = 2_000;
const GATEWAY_STATUSES = [0, 502, 503, 504];

/** What runs there, asked for every few seconds: also the pages without a websocket know when the server has gone. */
function useServer(isEnabled: boolean) {
  const server = useQuery({
    queryKey: ["server"],
    queryFn: () => take(api.GET("/api/server")),
    refetchInterval: (query) => (query.state.error ? LOST_POLL_MS : POLL_MS),
    retry: false,
    enabled: isEnabled,
  });
  const isLost = server.error instanceof ApiError && GATEWAY_STATUSES.includes(server.error.status);
  useEffect(() => contact.report("poll", !isLost), [isLost]);
  return server;
}

function focusSearch(): void {
  document.querySelector<HTMLInputElement>("[data-search] input, input[data-search]")?.focus();
}
