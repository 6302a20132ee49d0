"""Controls, blocks and caches shared by the pages: the only part of etp that knows Streamlit."""
