/**
 * Runs a benchmark: `npm run bench -- NAME [options]`; lists them when no name is given.
 *
 * A benchmark is a file of this folder. Its first sentence is what the list says about it.
 */
import { spawn } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'

const folder = import.meta.dirname

async function names(): Promise<string[]> {
  const files = await readdir(folder)
  return files
    .filter(file => file.endsWith('.ts') && file !== 'run.ts')
    .map(file => basename(file, '.ts'))
    .sort()
}

async function list(): Promise<void> {
  console.log('npm run bench -- NAME [options]\n')
  for (const name of await names()) {
    const source = await readFile(join(folder, `${name}.ts`), 'utf8')
    const comment =
      /\/\*\*([\s\S]*?)\*\//
        .exec(source)?.[1]
        ?.replace(/\n \* ?/g, ' ')
        .trim() ?? ''
    console.log(`  ${name.padEnd(14)} ${/^.*?[.:](?=\s|$)/.exec(comment)?.[0].replace(/:$/, '.') ?? ''}`)
  }
}

const [name, ...options] = process.argv.slice(2)
if (name === undefined) {
  await list()
} else if (!(await names()).includes(name)) {
  console.error(`error: there is no benchmark ${name}`)
  await list()
  process.exitCode = 2
} else {
  const child = spawn(process.execPath, [join(folder, `${name}.ts`), ...options], { stdio: 'inherit' })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
  process.exitCode = await new Promise<number>(resolve => child.on('close', status => resolve(status ?? 1)))
}
