// Shows the portal in place of the script: <script src="…/portal/embed.js" data-url="URL of a new session"></script>

{
  const { url, title } = document.currentScript.dataset;
  const frame = document.createElement("iframe");
  const origin = new URL(url).origin;
  frame.src = url;
  frame.title = title ?? "Webhooks";
  frame.allow = "clipboard-write";
  Object.assign(frame.style, { width: "100%", border: "0", display: "block", height: "20rem" });
  addEventListener("message", ({ source, origin: from, data }) => {
    if (source !== frame.contentWindow || from !== origin) return;
    const height = Number(data?.portalHeight);
    if (height > 0) frame.style.height = `${Math.min(height, 20_000)}px`;
  });
  document.currentScript.after(frame);
}
