import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { BrowserRouter } from "react-router";
import { AccountProvider } from "./access/hooks";
import { App } from "./app";
import { I18nProvider } from "./i18n";
import { LiveProvider } from "./live/hooks";
import { AccessGate } from "./pages/access/AccessGate";
import { ReviewProvider } from "./review/hooks";
import "./theme/tokens.css";
import "./theme/base.css";

const root = document.getElementById("root");
if (!root) throw new Error("index.html must hold #root");

createRoot(root).render(
  <StrictMode>
    <I18nProvider>
      <AccountProvider>
        <AccessGate>
          <LiveProvider>
            <ReviewProvider>
              <BrowserRouter>
                <App />
              </BrowserRouter>
            </ReviewProvider>
          </LiveProvider>
        </AccessGate>
      </AccountProvider>
    </I18nProvider>
  </StrictMode>,
);
