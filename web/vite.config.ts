import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// Where `npm run dev` finds the API: a running `llamascope view --port 7171`.
const server = process.env["LLAMASCOPE"] ?? "http://127.0.0.1:7171";

export default defineConfig({
  plugins: [svelte()],
  // The server's Content-Security-Policy is `default-src 'self'`: nothing may be inlined.
  build: {
    outDir: "../crates/serve/dist",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    sourcemap: false,
    target: "es2022",
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  // No test is held to a time: a busy machine may need long for the random colours.
  test: { include: ["src/**/*.test.ts"], testTimeout: 300_000 },
  server: { proxy: { "/api": { target: server, changeOrigin: true } } },
});
