"""Networks and real images in; a site's data and pictures out."""
