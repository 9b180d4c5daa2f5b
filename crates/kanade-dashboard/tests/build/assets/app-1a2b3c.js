document.title = "kanade";
