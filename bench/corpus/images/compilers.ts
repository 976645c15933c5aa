/** Compilers, each until a program that it has compiled has printed a line. */

import { type ImageDefinition, standsFor, upon, type VersionDefinition } from '../definition.ts';

const cSource = `
mkdir -p /src
cat >/src/hello.c <<'END'
#include <math.h>
#include <stdio.h>
int main(void) { return printf("hello from C: %g\\n", sqrt(1764)) < 0; }
END
`;

const gccCurrent: VersionDefinition = {
  from: 'base',
  layers: [{ packages: ['build-essential'] }, { script: cSource }],
  config: { cmd: ['sh', '-c', 'gcc -O2 -o /tmp/hello /src/hello.c -lm && /tmp/hello'] },
};

const buildTools = { packages: ['cmake', 'ninja-build'] };

export const gcc: ImageDefinition = {
  hello: { done: { by: 'line', text: 'hello from C: 42' } },
  current: gccCurrent,
  versions: {
    cmake: {
      stands: 'a dependency added below the application',
      from: 'gcc',
      withoutTop: 1,
      layers: [buildTools, { script: cSource }],
      config: {},
    },
    order: {
      stands: 'the packages of `cmake`, in layers of the other order',
      from: 'base',
      layers: [buildTools, ...gccCurrent.layers],
      config: gccCurrent.config,
    },
    unpatched: upon('base:unpatched', gccCurrent, standsFor.unpatched),
    trixie: upon('base:trixie', gccCurrent, standsFor.trixie),
  },
};

const rustSource = (text: string) => `
mkdir -p /src
cat >/src/hello.rs <<'END'
use std::collections::HashMap;
fn main() {
    let words: HashMap<_, _> = ["${text}"].into_iter().zip([42]).collect();
    for (word, number) in words {
        println!("{word}: {number}");
    }
}
END
`;

const rustCurrent: VersionDefinition = {
  from: 'gcc',
  layers: [{ packages: ['rustc', 'cargo'] }, { script: rustSource('hello from Rust') }],
  config: { cmd: ['sh', '-c', 'rustc -o /tmp/hello /src/hello.rs && /tmp/hello'] },
};

export const rust: ImageDefinition = {
  hello: { done: { by: 'line', text: 'hello from Rust' } },
  current: rustCurrent,
  versions: {
    code: {
      stands: 'new source over the same compiler',
      from: 'rust',
      withoutTop: 1,
      layers: [{ script: rustSource('hello from Rust again') }],
      config: {},
    },
    trixie: upon('gcc:trixie', rustCurrent, standsFor.trixie),
  },
};

const goSource = `
mkdir -p /src
cat >/src/hello.go <<'END'
package main

import "fmt"

func main() { fmt.Println("hello from Go:", 6*7) }
END
`;

const goCurrent: VersionDefinition = {
  from: 'base',
  layers: [{ packages: ['golang-go'] }, { script: goSource }],
  config: {
    cmd: ['go', 'run', '/src/hello.go'],
    env: ['CGO_ENABLED=0', 'GOCACHE=/tmp/go', 'GOFLAGS=-mod=mod', 'GOTOOLCHAIN=local'],
  },
};

export const go: ImageDefinition = {
  hello: { done: { by: 'line', text: 'hello from Go: 42' } },
  current: goCurrent,
  versions: {
    trixie: upon('base:trixie', goCurrent, standsFor.trixie),
  },
};

const javaApp = (greeting: string) => `
mkdir -p /app
cat >/app/Hello.java <<'END'
import java.util.stream.IntStream;

class Hello {
  public static void main(String[] args) {
    System.out.printf("${greeting} from Java: %d%n", IntStream.of(20, 22).sum());
  }
}
END
javac -d /app /app/Hello.java
`;

const openjdkCurrent: VersionDefinition = {
  from: 'base',
  layers: [{ packages: ['default-jdk-headless'] }, { script: javaApp('hello') }],
  config: { entrypoint: ['java', '-cp', '/app'], cmd: ['Hello'] },
};

export const openjdk: ImageDefinition = {
  hello: { done: { by: 'line', text: 'from Java: 42' } },
  current: openjdkCurrent,
  versions: {
    code: {
      stands: 'new application code over the same runtime',
      from: 'openjdk',
      withoutTop: 1,
      layers: [{ script: javaApp('good day') }],
      config: {},
    },
    unpatched: upon('base:unpatched', openjdkCurrent, standsFor.unpatched),
    trixie: upon('base:trixie', openjdkCurrent, standsFor.trixie),
  },
};

const compileRust = `
echo 'fn main() { println!("hello from Rust: {}", 6 * 7) }' >/tmp/hello.rs
rustc -o /tmp/hello /tmp/hello.rs && /tmp/hello
`;

// More than 2 GB of compilers and their libraries, under names that every release has.
export const big: ImageDefinition = {
  hello: { args: ['sh', '-c', compileRust], done: { by: 'line', text: 'hello from Rust: 42' } },
  current: {
    from: 'base',
    layers: [
      { packages: ['llvm-dev', 'rustc'] },
      { packages: ['libboost-all-dev', 'golang-go'] },
      { packages: ['default-jdk-headless'] },
    ],
    config: {},
  },
};
