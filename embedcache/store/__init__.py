"""The feature store on disk: what it holds, who may write, how it is proved whole."""
