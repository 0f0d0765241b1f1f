import { CommanderError } from 'commander';
import { exitCodes } from './exit-codes.js';
import { createProgram, type Work } from './program.js';

/** Runs one command line and gives its exit code: 0 ok, 1 error, 2 gate failed, 128 and more when stopped by a signal. */
async function main(argv: string[]): Promise<number> {
  let work: Work | undefined;
  let json = false;
  const program = createProgram((chosen, asJson) => {
    work = chosen;
    json = asJson;
  });
  for (const command of [program, ...program.commands]) command.exitOverride();
  try {
    await program.parseAsync(argv);
    return (await work?.()) ?? exitCodes.ok;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    // Loaded when needed: help and version need nothing but the names of the commands.
    const { tellError } = await import('./output/trouble.js');
    return tellError(error, json);
  }
}

// "octet report … | head" closes the pipe early; that is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

process.exit(await main(process.argv));
