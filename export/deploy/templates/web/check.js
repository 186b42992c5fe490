// Says why the page does not start if it was opened as a file: browsers then load no modules.

if (location.protocol === "file:") {
  const title = document.getElementById("notice-title");
  title.textContent = "Expected an address of http, got a file";
  document.getElementById("notice-text").textContent =
    "Browsers run nets only in pages of a server. Run `python3 serve.py` in this folder, and open the address that it prints.";
  document.getElementById("spinner").hidden = true;
  document.getElementById("status").dataset.tone = "bad";
  document.getElementById("status-text").textContent = "Not served";
}
