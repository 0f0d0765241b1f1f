export { type ApiParts, createApi } from './app.js';
export { type ApiConfig, apiConfig, defaultConfig, type Environment, isLoopback, readEnvironment } from './config.js';
export { loggerOptions } from './logging.js';
