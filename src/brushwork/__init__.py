"""brushwork: teach a text-to-image model your style, subject or domain, and know what it learned."""

__version__ = "0.1.0"
